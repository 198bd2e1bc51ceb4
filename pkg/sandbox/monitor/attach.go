package monitor

import (
	"errors"
	"strconv"
)

// An attachment begins with "1 attach STREAMS" on a connection of its own, where STREAMS are some of the letters i, o
// and e, in this order, or "-" for none. The reply's text says what the container has for an input: "none", or "pipe"
// or "tty", and then the reply carries a descriptor, the container's own end of it, which can be polled. From then on
// the connection carries frames, one a packet, of which the first byte is the kind.
//
// The monitor sends what the container writes, to each attachment on its own. The kernel keeps it for an attachment that
// does not read; when that is full, the monitor waits for Patience, and from then on for nothing: what it cannot send it
// counts, and says so as soon as it can.

// Attach is the verb.
const Attach = "attach"

// Kinds of frames. A terminal's output is FrameStdout.
const (
	FrameStdout = 'o' // bytes that the container wrote, FrameMax at most
	FrameStderr = 'e'
	FrameLost   = 'l' // a decimal number: so many bytes were to be sent before what follows
	FrameClosed = 'c' // to the client: the container's input is over, give its descriptor up. To the monitor: this
	// session's input is over, which is the container's where it reads one session only (stdin_once). A connection that
	// ends without it (the daemon was killed) leaves the container's input as it is.
	FrameEnd = 'x' // the container has ended, its exit is stated, and this is all
)

// FrameMax is the longest frame, in bytes, without its kind.
const FrameMax = 32 << 10

// Patience is how long an attachment that does not read holds up the container's output, in ms, once: until it has
// caught up, it is not waited for again.
const Patience = 500

// Streams are what an attachment wants.
type Streams struct{ Stdin, Stdout, Stderr bool }

// Inputs of a container.
const (
	InputNone     = "none"
	InputPipe     = "pipe"
	InputTerminal = "tty"
)

// ErrStreams is an attach request whose streams cannot be read.
var ErrStreams = errors.New(`streams are not some of "ioe", in this order, or "-"`)

func (s Streams) append(b []byte) []byte {
	if s == (Streams{}) {
		return append(b, '-')
	}
	for _, f := range [...]struct {
		is     bool
		letter byte
	}{{s.Stdin, 'i'}, {s.Stdout, 'o'}, {s.Stderr, 'e'}} {
		if f.is {
			b = append(b, f.letter)
		}
	}
	return b
}

func parseStreams(p []byte) (s Streams, ok bool) {
	if len(p) == 1 && p[0] == '-' {
		return s, true
	}
	rest := p
	for _, f := range [...]struct {
		to     *bool
		letter byte
	}{{&s.Stdin, 'i'}, {&s.Stdout, 'o'}, {&s.Stderr, 'e'}} {
		if len(rest) > 0 && rest[0] == f.letter {
			*f.to, rest = true, rest[1:]
		}
	}
	return s, len(p) > 0 && len(rest) == 0
}

// AppendLost appends a FrameLost's packet.
func AppendLost(b []byte, n uint64) []byte {
	return strconv.AppendUint(append(b, FrameLost), n, 10)
}

// ParseFrame splits a packet into its kind and what follows. Lost is FrameLost's number.
func ParseFrame(p []byte) (kind byte, data []byte, lost uint64, err error) {
	if len(p) == 0 || len(p) > 1+FrameMax {
		return 0, nil, 0, ErrReply
	}
	kind, data = p[0], p[1:]
	switch kind {
	case FrameStdout, FrameStderr:
		return kind, data, 0, nil
	case FrameLost:
		lost, err = strconv.ParseUint(string(data), 10, 64)
		if err != nil || lost == 0 {
			return 0, nil, 0, ErrReply
		}
		return kind, nil, lost, nil
	case FrameClosed, FrameEnd:
		if len(data) == 0 {
			return kind, nil, 0, nil
		}
	}
	return 0, nil, 0, ErrReply
}
