package xtables

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// rule makes one struct ipt_entry or ip6t_entry with a standard target.
func rule(t table, in, out string, verdict int32) []byte {
	fixed := t.header + 28
	b := make([]byte, fixed+40)
	addrs := 16
	if t.family == unix.AF_INET6 {
		addrs = 64
	}
	copy(b[addrs:], in)
	copy(b[addrs+unix.IFNAMSIZ:], out)
	binary.NativeEndian.PutUint16(b[t.header+4:], uint16(fixed))
	binary.NativeEndian.PutUint16(b[t.header+6:], uint16(len(b)))
	binary.NativeEndian.PutUint16(b[fixed:], 40)
	binary.NativeEndian.PutUint32(b[fixed+32:], uint32(verdict))
	return b
}

var tables = []table{ipv4, ipv6}

func TestParse(t *testing.T) {
	for _, l := range tables {
		accept, drop := rule(l, "", "", -2), rule(l, "", "", -1)
		ours, other := rule(l, "br", "", -2), rule(l, "eth0", "br0", -2)
		for name, c := range map[string]struct {
			rules  [][]byte
			policy int // index
			drops  bool
			fails  bool
		}{
			"accept":       {[][]byte{accept}, 0, false, false},
			"drop":         {[][]byte{drop}, 0, true, false},
			"ours":         {[][]byte{ours, drop}, 1, false, false},
			"others":       {[][]byte{other, drop}, 1, true, false},
			"torn":         {[][]byte{drop[:len(drop)-1]}, 0, false, true},
			"empty":        {nil, 0, false, true},
			"endless":      {[][]byte{drop, make([]byte, len(drop))}, 0, false, true},
			"policy after": {[][]byte{drop}, 1, false, true},
		} {
			var entries []byte
			policy := 0
			for i, r := range c.rules {
				if i == c.policy {
					policy = len(entries)
				}
				entries = append(entries, r...)
			}
			if c.policy >= len(c.rules) {
				policy = len(entries)
			}
			drops, err := l.parse(entries, 0, policy, "br")
			if drops != c.drops || (err != nil) != c.fails {
				t.Errorf("%s: %v, %v", name, drops, err)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	for i, l := range tables {
		f.Add(i == 1, append(rule(l, "br", "", -2), rule(l, "", "", -1)...), 0, 152)
		f.Add(i == 1, []byte{}, 0, -1)
	}
	f.Fuzz(func(t *testing.T, v6 bool, entries []byte, first, policy int) {
		l := tables[0]
		if v6 {
			l = tables[1]
		}
		if drops, err := l.parse(entries, first, policy, "br"); drops && err != nil {
			t.Error("an answer with an error")
		}
	})
}
