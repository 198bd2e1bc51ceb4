package session

import (
	"bytes"
	"testing"
)

func TestParseKeys(t *testing.T) {
	for s, want := range map[string]string{
		"": "", DefaultKeys: "\x10\x11", "ctrl-a,d": "\x01d", "CTRL-Z": "\x1a", "ctrl-@": "\x00", `ctrl-\`: "\x1c", "ctrl-_,~": "\x1f~",
	} {
		if got, err := ParseKeys(s); err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", s, got, err)
		}
	}
	for _, s := range []string{",", "ctrl-", "ctrl-1", "ab", " ", "ctrl-p,", "\x01", "é"} {
		if got, err := ParseKeys(s); err == nil {
			t.Errorf("%q is %q", s, got)
		}
	}
}

// passed feeds text in pieces of n bytes.
func passed(want, text string, n int) (out string, found bool) {
	k := keys{want: []byte(want)}
	for b := []byte(text); len(b) > 0; {
		piece := b[:min(n, len(b))]
		b = b[len(piece):]
		o, f := k.pass(piece)
		if out += string(o); f {
			return out, true
		}
	}
	return out + string(k.rest()), false
}

func TestKeysAreFoundWhereverTheyAreTyped(t *testing.T) {
	for _, c := range []struct {
		want, text, out string
		found           bool
	}{
		{"PQ", "abPQcd", "ab", true}, {"PQ", "PPQ", "P", true}, {"PQ", "PaPbQ", "PaPbQ", false}, {"PQ", "aP", "aP", false},
		{"aab", "aaab", "a", true}, {"aab", "aaxaab", "aax", true}, {"abab", "abaabab", "aba", true}, {"abac", "ababac", "ab", true},
		{"", "PQ", "PQ", false}, {"x", "abcx", "abc", true},
	} {
		for n := 1; n <= len(c.text); n++ {
			if out, found := passed(c.want, c.text, n); out != c.out || found != c.found {
				t.Errorf("%q in %q, by %d: %q, %v", c.want, c.text, n, out, found)
			}
		}
	}
}

func FuzzKeys(f *testing.F) {
	f.Add("aab", "aaab", 1)
	f.Add("\x10\x11", "\x10\x10\x11", 2)
	f.Fuzz(func(t *testing.T, want, text string, n int) {
		if n < 1 || len(want) > 16 {
			return
		}
		out, found := passed(want, text, n)
		i := bytes.Index([]byte(text), []byte(want))
		switch {
		case want == "" || i < 0:
			if found || out != text {
				t.Errorf("%q in %q: %q, %v", want, text, out, found)
			}
		case !found || out != text[:i]:
			t.Errorf("%q in %q: %q, %v", want, text, out, found)
		}
	})
}
