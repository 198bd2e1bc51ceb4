package logfile

import (
	"bytes"
	"strconv"
	"syscall"

	"github.com/runtimed/runtimed/pkg/logs/entry"
)

// kernel is the few calls that a File makes on its descriptor; tests put faults here.
type kernel interface {
	write(p []byte) (int, error)
	size() (int64, error)
	truncate(size int64) error
	close() error
}

// File is an entry.Sink. It is not safe for concurrent use.
type File struct {
	path  string
	k     kernel // nil discards
	lost  uint64 // bytes of output, in all
	since uint64 // bytes of output since the last marker
	cause error  // of the last loss since then
	torn  bool   // the file ends within an entry, and could not be cut
	// streams, by entry.Stdout and entry.Stderr: known since their first batch, with what they lost since the marker.
	streams [2]stream
	buf     [entry.Reserve]byte
}

type stream struct {
	s    *entry.Stream
	lost bool
}

// Open opens the log at path, an absolute path; "" discards and counts nothing as lost. The file is made with mode
// 0640 if it is not there, and appended to if it is. It must be a regular file, and no symbolic link, so that whoever
// may write to the log's directory cannot turn the log against another file.
func Open(path string) (*File, error) {
	f := &File{path: path}
	if path == "" {
		return f, nil
	}
	k, err := open(path)
	if err != nil {
		return nil, err
	}
	f.k = k
	return f, nil
}

// Lost is the number of bytes of output that are not in the log.
func (f *File) Lost() uint64 { return f.lost }

// Pending tells whether a loss is not marked in the log yet.
func (f *File) Pending() bool { return f.since > 0 }

// Reopen goes on in a new file at the log's path. On an error nothing has changed, and nothing was made.
func (f *File) Reopen(ns int64) error {
	if f.path == "" {
		return nil
	}
	k, err := open(f.path)
	if err != nil {
		return err
	}
	f.k.close()
	f.k, f.torn = k, false
	f.Mark(ns)
	return nil
}

// Append writes a batch, or counts it as lost.
func (f *File) Append(b entry.Batch) {
	if f.k == nil {
		return
	}
	st := f.stream(b.Stream)
	start := entry.Reserve
	if f.since > 0 {
		m := f.marker(b.Time)
		start -= len(m)
		copy(b.Buf[start:], m)
	}
	fail := f.write(b.Buf[start:])
	if fail.errno == nil {
		f.marked()
		b.Stream.Open = lastTag(b.Entries(), b.Header) == entry.Partial
		return
	}
	stored, dropped := b.Entries()[:fail.stored], b.Entries()[fail.stored:]
	if len(stored) > 0 {
		b.Stream.Open = lastTag(stored, b.Header) == entry.Partial
	}
	n := content(dropped, b.Header)
	f.since += n
	f.lost += n
	f.cause = fail.errno
	st.lost = true
}

// Mark tries to write the marker of a loss that is not marked yet.
func (f *File) Mark(ns int64) {
	if f.k != nil && f.since > 0 && f.write(f.marker(ns)).errno == nil {
		f.marked()
	}
}

func (f *File) marked() {
	if f.since == 0 {
		return
	}
	for i := range f.streams {
		if st := &f.streams[i]; st.closes(i) {
			st.s.Open = false
		}
		f.streams[i].lost = false
	}
	f.since, f.cause, f.torn = 0, nil, false
}

// closes tells whether a marker must end the stream's line first: its rest was lost, or the marker itself would be
// taken for the rest.
func (st *stream) closes(i int) bool {
	return st.s != nil && st.s.Open && (st.lost || i == 1)
}

func (f *File) marker(ns int64) []byte {
	b := f.buf[:0]
	if f.torn {
		b = append(b, '\n')
	}
	for i := range f.streams {
		if st := &f.streams[i]; st.closes(i) {
			b = append(entry.AppendHeader(b, ns, st.s.Name, entry.Full), '\n')
		}
	}
	b = entry.AppendHeader(b, ns, entry.Stderr, entry.Full)
	b = append(b, "runtimed: "...)
	b = strconv.AppendUint(b, f.since, 10)
	b = append(b, " bytes of log lost: "...)
	b = append(b, f.cause.Error()...)
	return append(b, '\n')
}

func (f *File) stream(s *entry.Stream) *stream {
	i := 0
	if s.Name == entry.Stderr {
		i = 1
	}
	f.streams[i].s = s
	return &f.streams[i]
}

// failure says what a write did not do: stored bytes of it are in the file, which are whole entries.
type failure struct {
	errno  error
	stored int
}

// write writes whole entries. If only a part was written it keeps that part's whole entries, except while a loss is
// pending: then it is all or nothing, or a full disk's last block would fill with markers.
func (f *File) write(p []byte) failure {
	n := 0
	for n < len(p) {
		k, err := f.k.write(p[n:])
		if err == syscall.EINTR {
			continue
		}
		if err == nil && k > 0 {
			n += k
			continue
		}
		if err == nil {
			err = syscall.EIO
		}
		return failure{errno: err, stored: f.cut(p, n)}
	}
	return failure{}
}

// cut removes from the file's end what is not a whole entry of p[:n], which was just written, and returns what stays.
func (f *File) cut(p []byte, n int) int {
	keep := bytes.LastIndexByte(p[:n], '\n') + 1
	if f.since > 0 {
		keep = 0
	}
	if keep == n {
		return keep
	}
	size, err := f.k.size()
	if err == nil && size >= int64(n) {
		err = f.k.truncate(size - int64(n-keep))
	}
	if err != nil {
		f.torn = true // an append-only file, say: the marker begins with a newline
	}
	return keep
}

// content counts the container's own bytes in whole entries of one header length.
func content(b []byte, header int) uint64 {
	n := uint64(0)
	for len(b) > 0 {
		end := bytes.IndexByte(b, '\n')
		n += uint64(end - header)
		if b[header-2] == entry.Full {
			n++
		}
		b = b[end+1:]
	}
	return n
}

// lastTag is the tag of the last of some whole entries.
func lastTag(b []byte, header int) byte {
	return b[bytes.LastIndexByte(b[:len(b)-1], '\n')+1+header-2]
}
