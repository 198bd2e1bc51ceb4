package monitor

import (
	"strings"
	"testing"
)

func TestFrames(t *testing.T) {
	for in, want := range map[string]struct {
		kind byte
		data string
		lost uint64
	}{
		"ohello": {FrameStdout, "hello", 0}, "e\x00\xff": {FrameStderr, "\x00\xff", 0}, "o": {FrameStdout, "", 0},
		"l1": {FrameLost, "", 1}, "l18446744073709551615": {FrameLost, "", 1<<64 - 1}, "c": {FrameClosed, "", 0}, "x": {FrameEnd, "", 0},
		"o" + strings.Repeat("y", FrameMax): {FrameStdout, strings.Repeat("y", FrameMax), 0},
	} {
		kind, data, lost, err := ParseFrame([]byte(in))
		if err != nil || kind != want.kind || string(data) != want.data || lost != want.lost {
			t.Errorf("%.20q: %c, %.20q, %d, %v", in, kind, data, lost, err)
		}
	}
	for _, in := range []string{"", "?", "l", "l0", "lx", "l-1", "l1 ", "l18446744073709551616", "cx", "xx", "1 ok", "O", "o" + strings.Repeat("y", FrameMax+1)} {
		if kind, _, _, err := ParseFrame([]byte(in)); err == nil {
			t.Errorf("%.20q: taken for %c", in, kind)
		}
	}
	if got := string(AppendLost(nil, 70)); got != "l70" {
		t.Errorf("%q", got)
	}
}

func FuzzParseFrame(f *testing.F) {
	for _, s := range []string{"ox", "l12", "c", "x", ""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		kind, data, lost, err := ParseFrame(p)
		switch {
		case err != nil:
		case kind == FrameLost && lost == 0, len(data) > FrameMax, kind != p[0]:
			t.Fatalf("%q: %c, %q, %d", p, kind, data, lost)
		}
	})
}
