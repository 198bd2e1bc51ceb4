package entry

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// collect is a sink that keeps a copy, checks the batches and scribbles over what it may use.
type collect struct {
	t       testing.TB
	all     bytes.Buffer
	batches int
}

func (c *collect) Append(b Batch) {
	c.batches++
	e := b.Entries()
	if len(e) == 0 || e[len(e)-1] != '\n' {
		c.t.Errorf("batch %q is not whole entries", e)
	}
	c.all.Write(e)
	for i := range b.Buf {
		b.Buf[i] = '#'
	}
}

func encoder(t testing.TB, size int) (*Encoder, *collect) {
	c := &collect{t: t}
	return NewEncoder(c, make([]byte, 0, size)), c
}

func stream(name string) *Stream { return NewStream(name, make([]byte, PartSize)) }

const at = 1_700_000_000_123_456_789 // 2023-11-14T22:13:20.123456789Z

func TestGolden(t *testing.T) {
	const o = "2023-11-14T22:13:20.123456789Z stdout "
	k := func(n int) string { return strings.Repeat("x", n) }
	for name, c := range map[string]struct{ in, want string }{
		"empty":           {"", ""},
		"line":            {"hello\n", o + "F hello\n"},
		"empty line":      {"\n", o + "F \n"},
		"lines":           {"a\n\nb\n", o + "F a\n" + o + "F \n" + o + "F b\n"},
		"tail":            {"a\nb", o + "F a\n" + o + "P b\n"},
		"carriage return": {"a\r\nb\r", o + "F a\r\n" + o + "P b\r\n"},
		"bytes":           {"\x00\xff \t\n", o + "F \x00\xff \t\n"},
		"full part":       {k(PartSize) + "\n", o + "F " + k(PartSize) + "\n"},
		"part and one":    {k(PartSize+1) + "\n", o + "P " + k(PartSize) + "\n" + o + "F x\n"},
		"two parts":       {k(2*PartSize) + "\n", o + "P " + k(PartSize) + "\n" + o + "F " + k(PartSize) + "\n"},
		"part as tail":    {k(PartSize), o + "P " + k(PartSize) + "\n"},
		"parts as tail":   {k(2*PartSize + 5), strings.Repeat(o+"P "+k(PartSize)+"\n", 2) + o + "P xxxxx\n"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, step := range []int{len(c.in) + 1, 1, 7, PartSize, PartSize + 1} {
				e, got := encoder(t, 3*BufferMin)
				s := stream(Stdout)
				for in := []byte(c.in); len(in) > 0; {
					n := min(step, len(in))
					e.Write(s, at, in[:n])
					in = in[n:]
				}
				e.Flush(s, at)
				e.Flush(s, at)
				if got.all.String() != c.want {
					t.Errorf("steps of %d: got %.200q, want %.200q", step, got.all.String(), c.want)
				}
			}
		})
	}
}

func TestOneReadIsOneBatch(t *testing.T) {
	e, c := encoder(t, 1<<20)
	e.Write(stream(Stdout), at, bytes.Repeat([]byte("a line\n"), 9000))
	if c.batches != 1 {
		t.Errorf("%d batches", c.batches)
	}
}

func TestTimes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	times := []int64{0, 1, 999_999_999, 1e9, 951_782_399e9, 951_782_400e9, 4_107_542_399_999_999_999, 1<<63 - 1}
	for range 100_000 {
		times = append(times, r.Int64())
	}
	for _, ns := range times {
		want := time.Unix(0, ns).UTC().Format(time.RFC3339Nano)
		if got := string(AppendTime(nil, ns)); got != want {
			t.Fatalf("%d: got %s, want %s", ns, got, want)
		}
	}
}

// decode puts the streams together again.
func decode(t testing.TB, log []byte) map[string]string {
	t.Helper()
	parts := map[string]*bytes.Buffer{Stdout: {}, Stderr: {}}
	for len(log) > 0 {
		end := bytes.IndexByte(log, '\n')
		f := strings.SplitN(string(log[:end]), " ", 4)
		if len(f) != 4 || len(f[3]) > PartSize {
			t.Fatalf("entry %.100q", log[:end])
		}
		if _, err := time.Parse(time.RFC3339Nano, f[0]); err != nil {
			t.Fatal(err)
		}
		parts[f[1]].WriteString(f[3])
		switch f[2] {
		case "F":
			parts[f[1]].WriteByte('\n')
		case "P":
		default:
			t.Fatalf("entry %.100q", log[:end])
		}
		log = log[end+1:]
	}
	out := map[string]string{}
	for name, b := range parts {
		out[name] = b.String()
	}
	return out
}

// Whatever is written, in whatever pieces and order, comes together again, and in as many entries as it needs.
func TestReassembly(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 100 {
		e, c := encoder(t, BufferMin+r.IntN(1<<18))
		streams := []*Stream{stream(Stdout), stream(Stderr)}
		want := map[string]string{}
		for range r.IntN(30) {
			s := streams[r.IntN(2)]
			p := random(r)
			e.Write(s, at+r.Int64N(1e9), p)
			want[s.Name] += string(p)
			if r.IntN(10) == 0 {
				e.Flush(s, at)
			}
		}
		for _, s := range streams {
			e.Flush(s, at)
		}
		for name, got := range decode(t, c.all.Bytes()) {
			if got != want[name] {
				t.Fatalf("%s differs: %d bytes for %d", name, len(got), len(want[name]))
			}
		}
	}
}

func random(r *rand.Rand) []byte {
	p := make([]byte, r.IntN(1<<uint(r.IntN(18))+1))
	every := 1 + r.IntN(1<<uint(r.IntN(16)))
	for i := range p {
		p[i] = byte(r.Uint32())
		if p[i] == '\n' {
			p[i] = 'n'
		}
		if r.IntN(every) == 0 {
			p[i] = '\n'
		}
	}
	return p
}

func TestAllocatesNothing(t *testing.T) {
	e := NewEncoder(nothing{}, make([]byte, 0, 1<<20))
	s := stream(Stdout)
	p := bytes.Repeat([]byte("hello world\n"), 1000)
	if n := testing.AllocsPerRun(100, func() { e.Write(s, at, p) }); n > 0 {
		t.Errorf("%v allocations for a write", n)
	}
}

type nothing struct{}

func (nothing) Append(Batch) {}

func FuzzEncoder(f *testing.F) {
	f.Add([]byte("a\nb"), uint16(1), uint16(3))
	f.Add(bytes.Repeat([]byte("x"), 40000), uint16(16384), uint16(7))
	f.Fuzz(func(t *testing.T, p []byte, a, b uint16) {
		e, c := encoder(t, BufferMin)
		out, err := stream(Stdout), stream(Stderr)
		n := min(int(a), len(p))
		m := min(n+int(b), len(p))
		e.Write(out, at, p[:n])
		e.Write(err, at, p[n:m])
		e.Write(out, at, p[m:])
		e.Flush(out, at)
		e.Flush(err, at)
		got := decode(t, c.all.Bytes())
		if got[Stdout] != string(p[:n])+string(p[m:]) || got[Stderr] != string(p[n:m]) {
			t.Fatal("the parts do not make what was written")
		}
	})
}

func benchmark(b *testing.B, in []byte) {
	e := NewEncoder(nothing{}, make([]byte, 0, 512<<10))
	s := stream(Stdout)
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		e.Write(s, at, in)
	}
}

func lines(n int) []byte {
	return bytes.Repeat(append(bytes.Repeat([]byte{'x'}, n-1), '\n'), (64<<10)/n)
}

func BenchmarkEncoder100B(b *testing.B)     { benchmark(b, lines(100)) }
func BenchmarkEncoder1KiB(b *testing.B)     { benchmark(b, lines(1024)) }
func BenchmarkEncoderUnbroken(b *testing.B) { benchmark(b, bytes.Repeat([]byte{'x'}, 64<<10)) }
