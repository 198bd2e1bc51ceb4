package logs

import (
	"bytes"
	"time"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/logs/entry"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Entry is one line of a log file.
type Entry struct {
	Time    time.Time
	Stream  string // entry.Stdout or entry.Stderr
	Partial bool   // the container wrote no newline after Content
	Content []byte // part of the line that was parsed
}

// Parse reads a line of the CRI log format (package entry), without its newline. More tags than the first, separated
// by colons, are reserved by the format and ignored. The error is DataLoss.
func Parse(line []byte) (Entry, error) {
	stamp, rest, ok1 := bytes.Cut(line, []byte{' '})
	stream, rest, ok2 := bytes.Cut(rest, []byte{' '})
	tags, content, ok3 := bytes.Cut(rest, []byte{' '})
	if !ok3 {
		tags = rest // "F" at the end of a line: some writers leave out the space before an empty content
	}
	if !ok1 || !ok2 {
		return Entry{}, spec.Errorf(errdefs.ErrDataLoss, "log line %.60q is not \"time stream tag content\"", line)
	}
	t, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return Entry{}, spec.Errorf(errdefs.ErrDataLoss, "log line %.60q does not begin with a time", line)
	}
	e := Entry{Time: t, Content: content}
	switch string(stream) {
	case entry.Stdout, entry.Stderr:
		e.Stream = string(stream)
	default:
		return Entry{}, spec.Errorf(errdefs.ErrDataLoss, "log line %.60q names no stream", line)
	}
	tag, _, _ := bytes.Cut(tags, []byte{':'})
	switch string(tag) {
	case string(entry.Full):
	case string(entry.Partial):
		e.Partial = true
	default:
		return Entry{}, spec.Errorf(errdefs.ErrDataLoss, "log line %.60q has no tag F or P", line)
	}
	return e, nil
}
