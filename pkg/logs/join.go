package logs

import (
	"io"
	"time"

	"github.com/runtimed/runtimed/pkg/logs/entry"
)

// joinMax is the most of one line that waits for its end, in bytes. What is longer is passed on in pieces.
const joinMax = 1 << 20

// joiner makes lines of entries and writes those that are wanted.
type joiner struct {
	out        [2]io.Writer // stdout, stderr; nil drops
	timestamps bool
	since      time.Time
	skip       int // of the lines that end next
	lines      [2]line
}

type line struct {
	begun  bool // parts were seen
	passed bool // the beginning is written already, or known to be unwanted
	drop   bool // with passed: unwanted
	time   time.Time
	text   []byte
}

func number(stream string) int {
	if stream == entry.Stderr {
		return 1
	}
	return 0
}

func (j *joiner) add(e Entry) error {
	i := number(e.Stream)
	l := &j.lines[i]
	if !l.begun {
		*l = line{begun: true, time: e.Time, text: l.text[:0]}
	}
	if len(l.text)+len(e.Content) > joinMax && !(l.passed && l.drop) {
		if err := j.pass(i); err != nil {
			return err
		}
	}
	if !l.passed || !l.drop {
		l.text = append(l.text, e.Content...)
	}
	if e.Partial {
		return nil
	}
	l.text = append(l.text, '\n')
	return j.end(i)
}

// pass deals with the beginning of a line that is too long to wait for. While lines are skipped, it is not known yet
// whether this one is wanted: its oldest part is let go, and it begins later.
func (j *joiner) pass(i int) error {
	l := &j.lines[i]
	if j.skip > 0 {
		l.text = l.text[:0]
		return nil
	}
	return j.write(i)
}

// end ends a line, with or without a newline.
func (j *joiner) end(i int) error {
	l := &j.lines[i]
	l.begun = false
	if j.skip > 0 {
		j.skip--
		return nil
	}
	return j.write(i)
}

func (j *joiner) write(i int) error {
	l := &j.lines[i]
	if len(l.text) == 0 {
		return nil
	}
	first := !l.passed
	if first {
		l.passed, l.drop = true, l.time.Before(j.since) || j.out[i] == nil
	}
	defer func() { l.text = l.text[:0] }()
	if l.drop {
		return nil
	}
	if first && j.timestamps {
		stamp := l.time.UTC().AppendFormat(nil, time.RFC3339Nano)
		if _, err := j.out[i].Write(append(stamp, ' ')); err != nil {
			return err
		}
	}
	_, err := j.out[i].Write(l.text)
	return err
}

// show writes what there is of unfinished lines: a reader that waits shall see a prompt.
func (j *joiner) show() error {
	for i := range j.lines {
		if l := &j.lines[i]; l.begun && len(l.text) > 0 && j.skip == 0 {
			if err := j.write(i); err != nil {
				return err
			}
		}
	}
	return nil
}

// finish ends the lines that the container left unfinished.
func (j *joiner) finish() error {
	for i := range j.lines {
		if j.lines[i].begun {
			if err := j.end(i); err != nil {
				return err
			}
		}
	}
	return nil
}
