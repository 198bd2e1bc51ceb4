package entry

import "bytes"

const (
	// PartSize is the longest content of one entry, in bytes.
	PartSize = 16 << 10
	// HeaderMax is the most that comes before an entry's content: 30 bytes of time, the longest stream and the tag.
	HeaderMax = len("2006-01-02T15:04:05.999999999Z stdout F ")
	// Reserve is what an Encoder leaves free in front of a batch, so that the sink can put entries of its own there
	// and still write once.
	Reserve = 512
	// BufferMin is the smallest buffer that an Encoder works with.
	BufferMin = Reserve + HeaderMax + PartSize + 1
)

// The streams' names, as the format has them.
const (
	Stdout = "stdout"
	Stderr = "stderr"
)

// The tags.
const (
	Full    = 'F'
	Partial = 'P'
)

// Batch is whole entries of one stream and one time, in Buf[Reserve:]. The sink may use Buf[:Reserve] and keeps
// nothing. Header is the length of every entry's header.
type Batch struct {
	Buf    []byte
	Header int
	Stream *Stream
	Time   int64 // ns
}

// Entries returns the batch's bytes.
func (b Batch) Entries() []byte { return b.Buf[Reserve:] }

// Sink takes batches in order.
type Sink interface{ Append(Batch) }

// Stream is the state of one of a container's streams.
type Stream struct {
	Name string // Stdout or Stderr
	held []byte // of the line that is not finished, not yet in an entry; capacity PartSize
	// Open is the sink's: the last entry that it stored of this stream is a P.
	Open bool
}

// NewStream returns a stream that holds what it must in buf, whose capacity is at least PartSize.
func NewStream(name string, buf []byte) *Stream {
	return &Stream{Name: name, held: buf[:0:PartSize]}
}

// Held is the number of bytes that wait for the end of their line.
func (s *Stream) Held() int { return len(s.held) }

// Encoder cuts what streams read into entries and hands them to a Sink, as many as fit its buffer at a time.
type Encoder struct {
	sink   Sink
	buf    []byte
	batch  Batch
	header [HeaderMax]byte
}

// NewEncoder returns an Encoder that works in buf, of at least BufferMin bytes.
func NewEncoder(sink Sink, buf []byte) *Encoder {
	return &Encoder{sink: sink, buf: buf[:Reserve]}
}

// Write takes what was read from s at the time ns. All entries that it completes are with the sink when it returns;
// the rest of an unfinished line, at most PartSize bytes, is held.
func (e *Encoder) Write(s *Stream, ns int64, p []byte) {
	e.begin(s, ns)
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		n := i
		if i < 0 {
			n = len(p)
		}
		// A part is cut only when more of its line is known: a line of exactly PartSize bytes is one entry.
		for len(s.held)+n > PartSize {
			k := PartSize - len(s.held)
			e.add(s, Partial, p[:k])
			p, n, i = p[k:], n-k, i-k
		}
		if n == len(p) {
			s.held = append(s.held, p...)
			break
		}
		e.add(s, Full, p[:i])
		p = p[i+1:]
	}
	e.flush()
}

// Flush makes an entry of what is held, without an end of line: when the stream has ended, or has paused so long that
// a reader should see it.
func (e *Encoder) Flush(s *Stream, ns int64) {
	if len(s.held) == 0 {
		return
	}
	e.begin(s, ns)
	e.add(s, Partial, nil)
	e.flush()
}

func (e *Encoder) begin(s *Stream, ns int64) {
	h := AppendHeader(e.header[:0], ns, s.Name, Full)
	e.batch = Batch{Header: len(h), Stream: s, Time: ns}
}

func (e *Encoder) add(s *Stream, tag byte, rest []byte) {
	h := e.header[:e.batch.Header]
	if len(e.buf)+len(h)+len(s.held)+len(rest)+1 > cap(e.buf) {
		e.flush()
	}
	h[len(h)-2] = tag
	e.buf = append(e.buf, h...)
	e.buf = append(e.buf, s.held...)
	e.buf = append(e.buf, rest...)
	e.buf = append(e.buf, '\n')
	s.held = s.held[:0]
}

func (e *Encoder) flush() {
	if len(e.buf) == Reserve {
		return
	}
	e.batch.Buf = e.buf
	e.sink.Append(e.batch)
	e.buf = e.buf[:Reserve]
}

// AppendHeader appends what comes before the content.
func AppendHeader(b []byte, ns int64, stream string, tag byte) []byte {
	b = append(AppendTime(b, ns), ' ')
	b = append(b, stream...)
	return append(b, ' ', tag, ' ')
}
