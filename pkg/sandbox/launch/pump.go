package launch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// restMax is how much is taken of what a stream holds when its time is over, in bytes: more than a pipe's usual size,
// and an end where something goes on writing.
const restMax = 1 << 20

// pumps carry a session's output to the caller.
type pumps struct {
	wait sync.WaitGroup
	mu   sync.Mutex
	all  []*os.File
	late bool // drain has begun
}

// start takes the stream over. Without a writer, or behind one that fails, output is read and dropped: a command shall
// not hang because nobody wants to see it.
func (p *pumps) start(from *os.File, to io.Writer) {
	if to == nil {
		to = io.Discard
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = append(p.all, from)
	if p.late {
		from.SetReadDeadline(time.Now().Add(drainTime))
	}
	p.wait.Go(func() {
		defer from.Close()
		pump(from, to)
	})
}

func pump(from *os.File, to io.Writer) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		to = carry(to, b[:n])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			pumpRest(from, to, b)
		}
		if err != nil { // EOF, or EIO: nobody has the terminal open any more
			return
		}
	}
}

func carry(to io.Writer, b []byte) io.Writer {
	if len(b) > 0 {
		if _, err := to.Write(b); err != nil {
			return io.Discard
		}
	}
	return to
}

// pumpRest takes what is in the stream, and waits for nothing.
func pumpRest(from *os.File, to io.Writer, b []byte) {
	raw, err := from.SyscallConn()
	if err != nil {
		return
	}
	from.SetReadDeadline(time.Time{})
	for taken := 0; taken < restMax; {
		n := 0
		raw.Read(func(fd uintptr) bool {
			n, err = unix.Read(int(fd), b)
			return true
		})
		if err != nil || n <= 0 {
			return
		}
		taken += n
		to = carry(to, b[:n])
	}
}

// drain returns when all output was taken. What still writes, though the command has ended, gets a second; a caller that
// does not take what is there holds this up until ctx ends.
func (p *pumps) drain(ctx context.Context) {
	p.mu.Lock()
	p.late = true
	for _, f := range p.all {
		f.SetReadDeadline(time.Now().Add(drainTime))
	}
	p.mu.Unlock()
	done := make(chan struct{})
	go func() {
		p.wait.Wait()
		close(done)
	}()
	select {
	case <-done:
		return
	case <-ctx.Done():
	}
	select {
	case <-done:
	case <-time.After(2 * drainTime): // a write that hangs ends with the caller's connection
	}
}

// returns puts a carriage return before each line feed: what a terminal would do for its own output.
type returns struct{ to io.Writer }

func (w returns) Write(b []byte) (int, error) {
	if w.to == nil {
		return len(b), nil
	}
	if _, err := w.to.Write(bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n"))); err != nil {
		return 0, err
	}
	return len(b), nil
}
