package session

import (
	"fmt"
	"strings"
)

// DefaultKeys leave a session and let what it is with run on.
const DefaultKeys = "ctrl-p,ctrl-q"

// ParseKeys reads keys that are typed one after the other: single characters, or ctrl- and one of a to z, @, [, \, ], ^
// and _, with commas between them. "" is none.
func ParseKeys(s string) ([]byte, error) {
	if s == "" {
		return nil, nil
	}
	var keys []byte
	for part := range strings.SplitSeq(s, ",") {
		key, ctrl := strings.CutPrefix(strings.ToLower(part), "ctrl-")
		switch {
		case ctrl && len(key) == 1 && key[0] >= 'a' && key[0] <= 'z':
			keys = append(keys, key[0]-'a'+1)
		case ctrl && len(key) == 1 && strings.Contains(`@[\]^_`, key):
			keys = append(keys, key[0]-'@')
		case !ctrl && len(part) == 1 && part[0] > ' ' && part[0] < 0x7f:
			keys = append(keys, part[0])
		default:
			return nil, fmt.Errorf("--detach-keys %q: %q is neither one character nor ctrl- with a to z or one of @ [ \\ ] ^ _", s, part)
		}
	}
	return keys, nil
}

// keys finds a sequence in what is typed. What may be its beginning is held back until it is known.
type keys struct {
	want []byte
	seen int // how many of want are held back
}

// pass returns what of b, and of what was held back, is not the sequence; found is true behind its last key.
func (k *keys) pass(b []byte) (out []byte, found bool) {
	if len(k.want) == 0 {
		return b, false
	}
	for _, c := range b {
		for k.seen > 0 && c != k.want[k.seen] {
			// The longest end of what is held, with c to come, that is a beginning of the sequence.
			n := k.seen - 1
			for ; n > 0 && string(k.want[k.seen-n:k.seen]) != string(k.want[:n]); n-- {
			}
			out = append(out, k.want[:k.seen-n]...)
			k.seen = n
		}
		if c != k.want[k.seen] {
			out = append(out, c)
			continue
		}
		if k.seen++; k.seen == len(k.want) {
			return out, true
		}
	}
	return out, false
}

// rest is what was held back and will not be completed.
func (k *keys) rest() []byte {
	held := k.want[:k.seen]
	k.seen = 0
	return held
}
