package logs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// lineMax is the longest line of a log file that is read, in bytes: far more than any writer makes.
const lineMax = 4 << 20

// All, as Options.Tail, reads every line.
const All = -1

// Options says what to read. Path and the writers are needed.
type Options struct {
	Path string
	// Tail is the number of lines to begin with, counted from the log's end before anything is left out; All for all.
	// Lines of more than a MiB may lose their beginning to it.
	Tail int
	// Since leaves out lines that began earlier.
	Since time.Time
	// Timestamps puts the time of a line's first part before it, in UTC, and a space.
	Timestamps bool
	// Follow waits for more, until Ended or the context ends. The log need not be there yet.
	Follow bool
	// Ended is closed when the container has ended: Read returns when it has read what is there then. nil is never.
	Ended <-chan struct{}
	// Opened is called once, when Read holds the log open: what removes the log's directory from then on takes nothing
	// of it away. nil tells nobody.
	Opened func()
	// Stdout and Stderr take the streams' bytes as the container wrote them; nil drops a stream. They may be the same.
	Stdout io.Writer
	Stderr io.Writer
	// Malformed is told of each line that is not in the format (and is left out); nil ignores them.
	Malformed func(line []byte)
}

// Read reads a log as o says. It returns nil at the end of the log, NotFound where there is none (without Follow), the
// context's error when that ends it, or what a writer returned.
func Read(ctx context.Context, o Options) error {
	r := &reader{o: o, join: joiner{
		out: [2]io.Writer{o.Stdout, o.Stderr}, timestamps: o.Timestamps, since: o.Since,
	}}
	defer r.close()
	if o.Follow {
		return r.follow(ctx)
	}
	err := r.open(o.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return spec.NotFoundf("there is no log at %q", o.Path)
	}
	if err == nil {
		err = r.begin()
	}
	if err == nil {
		err = r.toEnd(ctx)
	}
	if err == nil {
		err = r.last()
	}
	return err
}

type reader struct {
	o    Options
	join joiner
	f    *os.File
	name string // the open file's last known name in the directory
	buf  []byte
	rest int   // buf[:rest] is the beginning of a line
	long bool  // of a line that is too long to be one: its rest is left out
	pos  int64 // bytes read from f
}

func (r *reader) open(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	r.use(f)
	if r.o.Opened != nil {
		r.o.Opened()
		r.o.Opened = nil
	}
	return nil
}

func (r *reader) use(f *os.File) {
	r.close()
	r.f, r.name, r.pos, r.rest = f, filepath.Base(f.Name()), 0, 0
}

func (r *reader) close() {
	if r.f != nil {
		r.f.Close()
		r.f = nil
	}
}

// begin seeks to the first of the last lines.
func (r *reader) begin() error {
	if r.o.Tail == All {
		return nil
	}
	st, err := r.f.Stat()
	if err != nil {
		return err
	}
	offset, skip, err := tail(r.f, st.Size(), r.o.Tail)
	if err != nil {
		return err
	}
	r.join.skip = skip
	r.pos, err = r.f.Seek(offset, io.SeekStart)
	return err
}

// toEnd reads to the present end of the open file.
func (r *reader) toEnd(ctx context.Context) error {
	const size = 64 << 10
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if len(r.buf)-r.rest < size {
			r.buf = append(r.buf[:r.rest], make([]byte, size)...)
		}
		n, err := r.f.Read(r.buf[r.rest : r.rest+size])
		r.pos += int64(n)
		if err := r.lines(r.rest + n); err != nil {
			return err
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// lines takes the whole lines of buf[:n] and keeps the rest.
func (r *reader) lines(n int) error {
	b := r.buf[:n]
	for from := r.rest; ; from = 0 {
		i := bytes.IndexByte(b[from:], '\n')
		if i < 0 {
			break
		}
		if err := r.line(b[:from+i]); err != nil {
			return err
		}
		b = b[from+i+1:]
	}
	r.rest = copy(r.buf, b)
	if r.rest > lineMax {
		r.long = true
	}
	if r.long {
		r.rest = 0
	}
	return nil
}

func (r *reader) line(b []byte) error {
	if r.long {
		r.long = false
		return nil
	}
	e, err := Parse(b)
	if err != nil {
		if r.o.Malformed != nil {
			r.o.Malformed(b)
		}
		return nil
	}
	return r.join.add(e)
}

// torn takes a last line without its newline, as a machine's crash leaves it: what there is of it is better than
// nothing.
func (r *reader) torn() error {
	n := r.rest
	r.rest = 0
	if n == 0 {
		return nil
	}
	return r.line(r.buf[:n])
}

func (r *reader) last() error {
	if err := r.torn(); err != nil {
		return err
	}
	return r.join.finish()
}
