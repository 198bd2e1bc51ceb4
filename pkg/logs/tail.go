package logs

import (
	"bytes"
	"io"
)

const (
	tailBlock = 64 << 10
	// tailBack is how far before the last n lines their first parts are looked for, in bytes.
	tailBack = 2 * joinMax
)

// tailer looks for the last n lines of a file, backwards.
type tailer struct {
	n     int
	ends  int     // lines whose end was seen
	open  [2]bool // an entry of the stream was seen
	needs [2]bool // the stream's wanted line may begin earlier
	at    int64   // offset of the earliest entry that was seen
	found int64   // at, when the n-th line's end was seen; -1 before
}

// tail returns where to begin reading, and how many of the lines that end from there on to skip, so that the last n
// lines are left. Where lines are in parts and the streams interleave, the first parts of a wanted line may lie before
// the end of an unwanted one.
func tail(f io.ReaderAt, size int64, n int) (offset int64, skip int, err error) {
	if n <= 0 {
		return size, 0, nil
	}
	t := &tailer{n: n, at: size, found: -1}
	var rest []byte // the end of a line whose beginning is in an earlier block
	for pos := size; pos > 0; {
		k := min(int64(tailBlock), pos)
		pos -= k
		block := make([]byte, k, int(k)+len(rest))
		if _, err := f.ReadAt(block, pos); err != nil && err != io.EOF {
			return 0, 0, err
		}
		rest = append(block, rest...)
		done := false
		rest, done = t.block(rest, pos)
		if done || t.found >= 0 && t.found-pos > tailBack || len(rest) > tailBack {
			break
		}
	}
	return t.at, max(0, t.ends-n), nil
}

// block takes the whole lines at the end of b, which lies at pos in the file, last first, and returns what is left of
// b, and whether enough was seen.
func (t *tailer) block(b []byte, pos int64) (rest []byte, done bool) {
	for len(b) > 0 {
		from := bytes.LastIndexByte(b[:len(b)-1], '\n') + 1
		if from == 0 && pos > 0 {
			return b, false
		}
		if t.entry(bytes.TrimSuffix(b[from:], []byte{'\n'})) {
			return b[:from], true
		}
		t.at = pos + int64(from)
		b = b[:from]
	}
	return nil, false
}

// entry takes the entry before those seen. It is true when that entry need not be read.
func (t *tailer) entry(text []byte) (done bool) {
	e, err := Parse(text)
	if err != nil {
		return false
	}
	i := number(e.Stream)
	end := !e.Partial || !t.open[i]
	t.open[i] = true
	if t.ends >= t.n && end {
		t.needs[i] = false
		if !t.needs[0] && !t.needs[1] {
			return true
		}
	}
	if end {
		t.ends++
		if t.ends <= t.n {
			t.needs[i] = true
		}
	}
	if t.ends >= t.n && t.found < 0 {
		t.found = t.at
	}
	return false
}
