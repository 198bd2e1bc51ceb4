package monitor

import (
	"errors"
	"strings"
	"testing"
)

func TestRequestRoundTrip(t *testing.T) {
	for want, r := range map[string]Request{
		"1 ping": {Verb: Ping}, "1 reopen": {Verb: Reopen}, "1 stats": {Verb: Stats},
		"1 resize 80 24": {Verb: Resize, Width: 80, Height: 24}, "1 resize 0 65535": {Verb: Resize, Height: 65535},
		"1 attach -": {Verb: Attach}, "1 attach ioe": {Verb: Attach, Streams: Streams{Stdin: true, Stdout: true, Stderr: true}},
		"1 attach ie": {Verb: Attach, Streams: Streams{Stdin: true, Stderr: true}}, "1 attach o": {Verb: Attach, Streams: Streams{Stdout: true}},
	} {
		p := r.Append(nil)
		got, err := ParseRequest(p)
		if string(p) != want || err != nil || got != r {
			t.Errorf("%q: %q, %+v, %v", want, p, got, err)
		}
	}
}

func TestRequestRefused(t *testing.T) {
	for in, want := range map[string]error{
		"": ErrVersion, "1": ErrVerb, "2 ping": ErrVersion, "11 ping": ErrVersion, " 1 ping": ErrVersion, "ping": ErrVersion,
		"1  ping": ErrVerb, "1 ping ": ErrVerb, "1 ping x": ErrVerb, "1 PING": ErrVerb, "1 pingx": ErrVerb, "1 ping\n": ErrVerb,
		"1 reopen /etc/passwd": ErrVerb, "1 resize": ErrSize, "1 resize 1": ErrSize, "1 resize 1 ": ErrSize, "1 resize  1": ErrSize,
		"1 resize 1 2 3": ErrSize, "1 resize -1 2": ErrSize, "1 resize 65536 2": ErrSize, "1 resize 2 99999": ErrSize,
		"1 resize 01 2": ErrSize, "1 resize 1 2\x00": ErrSize, "1 resize 184467440737095516160 2": ErrSize,
		"1 attach": ErrStreams, "1 attach ": ErrStreams, "1 attach x": ErrStreams, "1 attach oi": ErrStreams, "1 attach oo": ErrStreams,
		"1 attach o e": ErrStreams, "1 attach -o": ErrStreams, "1 attach o-": ErrStreams,
		strings.Repeat("1", PacketMax): ErrVersion,
	} {
		if r, err := ParseRequest([]byte(in)); !errors.Is(err, want) {
			t.Errorf("%q: %+v, %v; want %v", in, r, err, want)
		}
	}
}

func TestRequestAllocatesNothing(t *testing.T) {
	p, a, buf := []byte("1 resize 80 24"), []byte("1 attach ioe"), make([]byte, PacketMax)
	n := testing.AllocsPerRun(100, func() {
		if _, err := ParseRequest(p); err != nil {
			t.Fatal(err)
		}
		if _, err := ParseRequest(a); err != nil {
			t.Fatal(err)
		}
		AppendLost(buf[:0], 1<<63)
		AppendReply(buf[:0], true, "no")
		Counters{Read: 1 << 63}.Append(buf[:0])
	})
	if n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestReply(t *testing.T) {
	for want, c := range map[string]struct {
		failed bool
		text   string
	}{"1 ok": {false, ""}, "1 ok a b": {false, "a b"}, "1 error no\nroom": {true, "no\nroom"}} {
		p := AppendReply(nil, c.failed, c.text)
		text, err := ParseReply(p)
		var remote *RemoteError
		if string(p) != want || c.failed != errors.As(err, &remote) || c.failed && err.Error() != c.text || !c.failed && text != c.text {
			t.Errorf("%q: %q, %q, %v", want, p, text, err)
		}
	}
	if p := AppendReply(nil, true, strings.Repeat("x", 2*PacketMax)); len(p) != PacketMax {
		t.Errorf("%d bytes", len(p))
	}
	for _, in := range []string{"", "1", "1 ", "1 okay", "1 error", "1 error ", "2 ok", "ok", "1 fail x"} {
		if text, err := ParseReply([]byte(in)); !errors.Is(err, ErrReply) {
			t.Errorf("%q: %q, %v", in, text, err)
		}
	}
}

func TestCounters(t *testing.T) {
	want := Counters{Read: 1<<64 - 1, Lost: 3}
	got, err := ParseCounters(string(want.Append(nil)) + " later 7")
	if err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	for _, in := range []string{"", "read", "read 1", "read 1 lost", "read x lost 1", "lost 1 read 1", "read -1 lost 1", "read 1  lost 1"} {
		if c, err := ParseCounters(in); err == nil {
			t.Errorf("%q: %+v", in, c)
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte("1 ping"))
	f.Add([]byte("1 resize 80 24"))
	f.Add([]byte("1 attach ioe"))
	f.Add([]byte("1 attach -"))
	f.Fuzz(func(t *testing.T, p []byte) {
		r, err := ParseRequest(p)
		if err == nil && string(r.Append(nil)) != string(p) {
			t.Fatalf("%q is taken for %+v", p, r)
		}
	})
}

func FuzzParseReply(f *testing.F) {
	f.Add([]byte("1 ok read 7 lost 3"))
	f.Add([]byte("1 error text"))
	f.Fuzz(func(t *testing.T, p []byte) {
		text, err := ParseReply(p)
		if err != nil {
			return
		}
		if c, err := ParseCounters(text); err == nil {
			if again, err := ParseCounters(string(c.Append(nil))); err != nil || again != c {
				t.Fatalf("%q: %+v, %+v, %v", text, c, again, err)
			}
		}
	})
}
