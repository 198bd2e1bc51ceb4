package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/logs/entry"
)

func TestParse(t *testing.T) {
	when := time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)
	for in, want := range map[string]Entry{
		"2026-01-02T03:04:05.000000678Z stdout F hello world":   {when, entry.Stdout, false, []byte("hello world")},
		"2026-01-02T03:04:05.000000678Z stderr P  x":            {when, entry.Stderr, true, []byte(" x")},
		"2026-01-02T04:04:05.000000678+01:00 stdout P:more a\r": {when, entry.Stdout, true, []byte("a\r")},
		"2026-01-02T03:04:05.000000678Z stdout F ":              {when, entry.Stdout, false, nil},
		"2026-01-02T03:04:05.000000678Z stdout F":               {when, entry.Stdout, false, nil},
	} {
		e, err := Parse([]byte(in))
		if err != nil || !e.Time.Equal(want.Time) || e.Stream != want.Stream || e.Partial != want.Partial || !bytes.Equal(e.Content, want.Content) {
			t.Errorf("%q: got %+v, %v", in, e, err)
		}
	}
	for _, in := range []string{"", " ", "x", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z stdout", "2026-01-02T03:04:05Z stdin F x",
		"2026-01-02T03:04:05Z stdout G x", "2026-01-02T03:04:05Z stdout  x", "2026-01-02 stdout F x", "{\"log\":\"x\"}"} {
		if e, err := Parse([]byte(in)); !errdefs.IsDataLoss(err) {
			t.Errorf("%q: %+v, %v", in, e, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("2026-01-02T03:04:05.000000678Z stdout F hello"))
	f.Add([]byte("2026-01-02T03:04:05Z stderr P:x "))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := Parse(line)
		if err != nil {
			return
		}
		tag := byte(entry.Full)
		if e.Partial {
			tag = entry.Partial
		}
		if e.Time.Unix() < 0 || e.Time.Year() > 2200 {
			return
		}
		again := append(entry.AppendHeader(nil, e.Time.UnixNano(), e.Stream, tag), e.Content...)
		b, err := Parse(again)
		if err != nil || !b.Time.Equal(e.Time) || b.Stream != e.Stream || b.Partial != e.Partial || !bytes.Equal(b.Content, e.Content) {
			t.Fatalf("%q became %q", line, again)
		}
	})
}

// text makes a log of "o F hello" lines: stream, tag and content; the time is the line's number in seconds.
func text(lines ...string) string {
	var b []byte
	for i, l := range lines {
		stream := map[byte]string{'o': entry.Stdout, 'e': entry.Stderr}[l[0]]
		b = append(entry.AppendHeader(b, int64(i)*1e9, stream, l[2]), l[4:]...)
		b = append(b, '\n')
	}
	return string(b)
}

func write(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "0.log")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRead(t *testing.T) {
	log := text("o F one", "e F err", "o P tw", "e P er", "o F o", "e F r2", "o F ", "o P tail")
	for name, c := range map[string]struct {
		log       string
		o         Options
		stdout    string
		stderr    string
		malformed int
	}{
		"all":         {log, Options{Tail: All}, "one\ntwo\n\ntail", "err\ner" + "r2\n", 0},
		"none":        {log, Options{Tail: 0}, "", "", 0},
		"empty":       {"", Options{Tail: All}, "", "", 0},
		"tail 1":      {log, Options{Tail: 1}, "tail", "", 0},
		"tail 2":      {log, Options{Tail: 2}, "\ntail", "", 0},
		"tail 3":      {log, Options{Tail: 3}, "\ntail", "err2\n"[:2] + "r2\n", 0},
		"tail 4":      {log, Options{Tail: 4}, "two\n\ntail", "err2\n"[:2] + "r2\n", 0},
		"tail many":   {log, Options{Tail: 99}, "one\ntwo\n\ntail", "err\ner" + "r2\n", 0},
		"since":       {log, Options{Tail: All, Since: time.Unix(3, 0)}, "\ntail", "err2\n"[:2] + "r2\n", 0},
		"since later": {log, Options{Tail: All, Since: time.Unix(99, 0)}, "", "", 0},
		"timestamps": {log, Options{Tail: 3, Timestamps: true},
			"1970-01-01T00:00:06Z \n1970-01-01T00:00:07Z tail", "1970-01-01T00:00:03Z er" + "r2\n", 0},
		"torn":              {text("o F a") + "1970-01-01T00:00:00Z stdout F b", Options{Tail: All}, "a\nb\n", "", 0},
		"torn header":       {text("o F a") + "1970-01-01T00:0", Options{Tail: All}, "a\n", "", 1},
		"garbage":           {"\n\nxx\n" + text("o F a") + "\x00\x00\n", Options{Tail: All}, "a\n", "", 4},
		"tail with garbage": {text("o F a", "o F b") + "\x00\n\n", Options{Tail: 1}, "b\n", "", 2},
		"interleaved tail":  {text("o P 1", "e F a", "e F b", "o F 2", "e F c"), Options{Tail: 2}, "12\n", "c\n", 0},
	} {
		t.Run(name, func(t *testing.T) {
			var out, err bytes.Buffer
			n := 0
			o := c.o
			o.Path, o.Stdout, o.Stderr = write(t, c.log), &out, &err
			o.Malformed = func([]byte) { n++ }
			if e := Read(context.Background(), o); e != nil {
				t.Fatal(e)
			}
			if out.String() != c.stdout || err.String() != c.stderr || n != c.malformed {
				t.Errorf("got %q, %q, %d malformed; want %q, %q, %d", &out, &err, n, c.stdout, c.stderr, c.malformed)
			}
		})
	}
}

func TestOneStream(t *testing.T) {
	var out bytes.Buffer
	path := write(t, text("o F a", "e F b", "o F c"))
	if err := Read(context.Background(), Options{Path: path, Tail: All, Stdout: &out}); err != nil || out.String() != "a\nc\n" {
		t.Errorf("%q, %v", &out, err)
	}
	out.Reset()
	if err := Read(context.Background(), Options{Path: path, Tail: 2, Stderr: &out}); err != nil || out.String() != "b\n" {
		t.Errorf("%q, %v", &out, err)
	}
}

func TestReadErrors(t *testing.T) {
	ctx := context.Background()
	if err := Read(ctx, Options{Path: t.TempDir() + "/none"}); !errdefs.IsNotFound(err) {
		t.Errorf("no log: %v", err)
	}
	if err := Read(ctx, Options{Path: t.TempDir() + "/none/none", Follow: true}); !errdefs.IsNotFound(err) {
		t.Errorf("no directory: %v", err)
	}
	path := write(t, text("o F a"))
	full := errors.New("full")
	if err := Read(ctx, Options{Path: path, Tail: All, Stdout: failing{full}}); !errors.Is(err, full) {
		t.Errorf("failing writer: %v", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	if err := Read(ctx, Options{Path: path, Tail: All}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// The last n lines are whole, whatever the parts and however the streams interleave; without interleaving, they are
// the end of what all lines are.
func TestTailIsTheEnd(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 300 {
		both := r.IntN(2) == 0
		var lines []string
		long := strings.Repeat("z", 1+r.IntN(9000))
		open := [2]bool{}
		for i := range r.IntN(60) {
			s := 0
			if both {
				s = r.IntN(2)
			}
			tag := "FP"[r.IntN(2)]
			lines = append(lines, fmt.Sprintf("%c %c %d%s", "oe"[s], tag, i, long[:r.IntN(len(long))]))
			open[s] = tag == 'P'
		}
		for s := range open { // every line is ended
			if open[s] {
				lines = append(lines, fmt.Sprintf("%c F end", "oe"[s]))
			}
		}
		path := write(t, text(lines...))
		all, n := readLines(t, path, All), r.IntN(len(lines)+2)
		got, want := readLines(t, path, n), all[max(0, len(all)-n):]
		if strings.Join(got, "") != strings.Join(want, "") {
			t.Fatalf("tail %d of %d: got %.300q, want %.300q", n, len(all), got, want)
		}
	}
}

// readLines reads both streams, a line for each that ended, in order.
func readLines(t *testing.T, path string, n int) []string {
	t.Helper()
	var l splitter
	if err := Read(context.Background(), Options{Path: path, Tail: n, Stdout: &l, Stderr: &l}); err != nil {
		t.Fatal(err)
	}
	return l
}

type splitter []string

func (s *splitter) Write(p []byte) (int, error) {
	*s = append(*s, string(p))
	return len(p), nil
}

// A line that is too long to join is passed on, and its end is found by the tail.
func TestLongLine(t *testing.T) {
	part := strings.Repeat("x", entry.PartSize)
	var lines []string
	for range 300 {
		lines = append(lines, "o P "+part)
	}
	lines = append(lines, "o F end", "e F other")
	path := write(t, text(lines...))
	var out, other bytes.Buffer
	if err := Read(context.Background(), Options{Path: path, Tail: All, Stdout: &out, Stderr: &other}); err != nil {
		t.Fatal(err)
	}
	if want := strings.Repeat(part, 300) + "end\n"; out.String() != want || other.String() != "other\n" {
		t.Errorf("%d bytes, want %d", out.Len(), len(want))
	}
	out.Reset()
	if err := Read(context.Background(), Options{Path: path, Tail: 2, Timestamps: true, Stdout: &out}); err != nil {
		t.Fatal(err)
	}
	if out.Len() < joinMax || !strings.HasSuffix(out.String(), "xend\n") || strings.Count(out.String(), "Z ") != 1 {
		t.Errorf("%d bytes", out.Len())
	}
}

// What is no log at all is read in bounded memory.
func TestEndlessGarbage(t *testing.T) {
	path := write(t, strings.Repeat("g", 3*lineMax)+"\n"+text("o F a"))
	for _, n := range []int{All, 1, 5} {
		var out bytes.Buffer
		if err := Read(context.Background(), Options{Path: path, Tail: n, Stdout: &out}); err != nil || out.String() != "a\n" {
			t.Errorf("tail %d: %q, %v", n, &out, err)
		}
	}
}
