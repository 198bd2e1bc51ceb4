package main

import (
	"errors"
	"strings"
	"testing"
)

func TestEarlierOutput(t *testing.T) {
	for _, c := range []struct{ log, attached, want string }{
		{"", "", ""}, {"$ ", "", "$ "}, {"a\nb\n", "b\n", "a\n"}, {"a\nb\n", "b\nc", "a\n"}, {"a\n", "b\n", "a\n"},
		{"", "b", ""}, {"a\nb\n", "a\nb\n", ""}, {"xx", "xxx", ""},
	} {
		if got := string(earlier([]byte(c.log), []byte(c.attached))); got != c.want {
			t.Errorf("%q, of which %q is known: %q, not %q", c.log, c.attached, got, c.want)
		}
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("full") }

func TestHeldOutput(t *testing.T) {
	var out strings.Builder
	h := &held{to: &out}
	h.Write([]byte("b"))
	if out.Len() != 0 || h.released() || string(h.bytes()) != "b" {
		t.Errorf("%q, %q", out.String(), h.bytes())
	}
	h.release([]byte("a"))
	h.Write([]byte("c"))
	if out.String() != "abc" || !h.released() || h.failed() != nil {
		t.Errorf("%q, %v", out.String(), h.failed())
	}
	h = &held{to: full{}}
	if h.release(nil) == nil || h.failed() == nil {
		t.Error("a failed write was not told")
	}
}

func TestParsePortPairs(t *testing.T) {
	got, err := parsePorts([]string{"80", "8080:80", ":1", "0:65535"})
	if err != nil || len(got) != 4 || got[0] != (portPair{80, 80}) || got[1] != (portPair{8080, 80}) || got[2] != (portPair{0, 1}) || got[3] != (portPair{0, 65535}) {
		t.Errorf("%v, %v", got, err)
	}
	for _, s := range []string{"", ":", "0", "65536", "x", "1:x", "x:1", "65536:1", "1:2:3", "-1"} {
		if _, err := parsePorts([]string{s}); err == nil {
			t.Errorf("%q was taken", s)
		}
	}
}
