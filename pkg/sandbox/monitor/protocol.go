package monitor

import (
	"errors"
	"strconv"
)

// The control protocol: one request packet on a SOCK_SEQPACKET connection gets one reply packet, any number of times.
// Both begin with the version. A request is "1 ping", "1 reopen", "1 stats", "1 resize WIDTH HEIGHT" or "1 attach
// STREAMS", which makes the connection another one (see Attach); a reply is "1 ok", "1 ok TEXT" or "1 error TEXT". A
// monitor that is older than a verb answers it with an error.

// PacketMax is the longest packet, in bytes.
const PacketMax = 1024

// Verbs of requests.
const (
	Ping   = "ping"   // the monitor is there
	Reopen = "reopen" // go on in a new file at the log's path
	Stats  = "stats"  // the reply's text is Counters
	Resize = "resize" // set the terminal's size
)

// Request is one packet to the monitor. Width and Height, in cells, are Resize's; Streams are Attach's.
type Request struct {
	Verb    string
	Width   uint16
	Height  uint16
	Streams Streams
}

// Append appends the request's packet.
func (r Request) Append(b []byte) []byte {
	b = append(append(b, "1 "...), r.Verb...)
	switch r.Verb {
	case Resize:
		b = strconv.AppendUint(append(b, ' '), uint64(r.Width), 10)
		b = strconv.AppendUint(append(b, ' '), uint64(r.Height), 10)
	case Attach:
		b = r.Streams.append(append(b, ' '))
	}
	return b
}

// Why a request is refused.
var (
	ErrVersion = errors.New("protocol version not known, this is 1")
	ErrVerb    = errors.New("request not known")
	ErrSize    = errors.New("size is not WIDTH HEIGHT, each 0 to 65535")
)

// ParseRequest reads what Append wrote, exactly. It allocates nothing: the monitor answers for years without a heap
// that grows.
func ParseRequest(p []byte) (Request, error) {
	version, rest := word(p)
	if string(version) != "1" {
		return Request{}, ErrVersion
	}
	verb, rest := word(rest)
	switch string(verb) {
	case Ping:
		return bare(Ping, rest)
	case Reopen:
		return bare(Reopen, rest)
	case Stats:
		return bare(Stats, rest)
	case Resize:
		w, rest := word(rest)
		width, ok1 := number(w)
		height, ok2 := number(rest)
		if !ok1 || !ok2 {
			return Request{}, ErrSize
		}
		return Request{Verb: Resize, Width: width, Height: height}, nil
	case Attach:
		s, ok := parseStreams(rest)
		if !ok {
			return Request{}, ErrStreams
		}
		return Request{Verb: Attach, Streams: s}, nil
	}
	return Request{}, ErrVerb
}

// AppendReply appends a reply packet: text is the answer, or the error's text when failed.
func AppendReply(b []byte, failed bool, text string) []byte {
	if failed {
		b = append(b, "1 error "...)
	} else {
		b = append(b, "1 ok"...)
		if text != "" {
			b = append(b, ' ')
		}
	}
	if n := PacketMax - len(b); len(text) > n {
		text = text[:n]
	}
	return append(b, text...)
}

// RemoteError is what the monitor answered to a request that it could not do.
type RemoteError struct{ Text string }

func (e *RemoteError) Error() string { return e.Text }

// ErrReply is a reply that is not in the protocol.
var ErrReply = errors.New("the monitor's answer is not in the protocol's version 1")

// ParseReply returns an ok reply's text, a *RemoteError, or ErrReply.
func ParseReply(p []byte) (string, error) {
	version, rest := word(p)
	status, text := word(rest)
	switch {
	case string(version) != "1":
	case string(status) == "ok":
		return string(text), nil
	case string(status) == "error" && len(text) > 0:
		return "", &RemoteError{Text: string(text)}
	}
	return "", ErrReply
}

// Counters is the text of a Stats reply.
type Counters struct {
	Read uint64 // bytes that the container wrote
	Lost uint64 // bytes of these that could not be written to the log
}

// Append appends "read N lost N".
func (c Counters) Append(b []byte) []byte {
	b = strconv.AppendUint(append(b, "read "...), c.Read, 10)
	return strconv.AppendUint(append(b, " lost "...), c.Lost, 10)
}

// ParseCounters reads what Append wrote. Words after it are a newer monitor's, and are left alone.
func ParseCounters(text string) (Counters, error) {
	var c Counters
	rest := []byte(text)
	for _, f := range [...]struct {
		name string
		to   *uint64
	}{{"read", &c.Read}, {"lost", &c.Lost}} {
		var name, value []byte
		name, rest = word(rest)
		value, rest = word(rest)
		n, err := strconv.ParseUint(string(value), 10, 64)
		if string(name) != f.name || err != nil {
			return Counters{}, ErrReply
		}
		*f.to = n
	}
	return c, nil
}

func bare(verb string, rest []byte) (Request, error) {
	if rest != nil { // a space follows the verb
		return Request{}, ErrVerb
	}
	return Request{Verb: verb}, nil
}

// word splits at the first space.
func word(p []byte) (first, rest []byte) {
	for i := range p {
		if p[i] == ' ' {
			return p[:i], p[i+1:]
		}
	}
	return p, nil
}

func number(p []byte) (uint16, bool) {
	n := 0
	if len(p) == 0 || len(p) > 5 || len(p) > 1 && p[0] == '0' {
		return 0, false
	}
	for _, c := range p {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return uint16(n), n <= 65535
}
