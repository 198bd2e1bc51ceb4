package launch

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/runtimed/runtimed/pkg/sandbox/launch/wire"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// sizeTime is how long a terminal waits for its first size. Clients send it at once; a program that starts in a terminal
// of no size draws nothing.
const sizeTime = 200 * time.Millisecond

// Stream runs a command in the container as Exec does, with the caller's streams, and returns its exit code. It returns
// when the command has ended and what it wrote has been taken, or within seconds when ctx ends: then the command's whole
// tree is killed. What a command leaves in the background may write for a second more.
//
// A read of Stdin that is in progress then is the caller's to end. Nothing is read after it, or written.
func (s *Launcher) Stream(ctx context.Context, l spec.Launch, r spec.StreamRequest) (int32, error) {
	e, err := s.newSession(l, wire.ExecRequest{
		Args: r.Command, TTY: r.Streams.TTY, Stdin: r.Streams.Stdin != nil && !r.Streams.TTY, Copy: r.Copy,
	})
	if err != nil {
		return 0, err
	}
	defer e.close()
	i, err := newInput(e.request)
	if err != nil {
		return 0, err
	}
	fromStdout, fromStderr, err := e.start(i.theirs)
	closeAll(i.theirs)
	if err != nil {
		i.close()
		return 0, fmt.Errorf("start of the exec stage: %w", err)
	}
	var out pumps
	switch {
	case r.Streams.TTY:
		out.start(fromStderr, returns{r.Streams.Stdout}) // a refusal's reason
		fromStdout.Close()
		size := firstSize(ctx, r.Streams)
		e.request.Width, e.request.Height = size.Width, size.Height
		out.wait.Go(func() { i.serveTerminal(&out, r.Streams) })
	default:
		out.start(fromStdout, r.Streams.Stdout)
		out.start(fromStderr, r.Streams.Stderr)
		i.feed(r.Streams.Stdin)
	}
	e.ask()
	outcome, err := e.wait(ctx)
	i.over()
	out.drain(ctx)
	i.close()
	e.reap(err)
	return outcome.ExitCode, e.explain(ctx, outcome, err)
}

// firstSize waits a little for the terminal's size.
func firstSize(ctx context.Context, s spec.Streams) spec.TerminalSize {
	if s.Resize == nil {
		return spec.TerminalSize{}
	}
	select {
	case size := <-s.Resize:
		return size
	case <-time.After(sizeTime):
	case <-ctx.Done():
	}
	return spec.TerminalSize{}
}

// input is the way of a caller's input into a command: a pipe, or its terminal.
type input struct {
	theirs *os.File      // the stage's end; nil without an input
	pipe   *os.File      // ours, without a terminal
	socket *net.UnixConn // ours: brings the terminal
	ended  chan struct{} // closed when the session is over
}

func newInput(r wire.ExecRequest) (i *input, err error) {
	i = &input{ended: make(chan struct{})}
	switch {
	case r.TTY:
		i.socket, i.theirs, err = socketPair()
	case r.Stdin:
		i.theirs, i.pipe, err = pipeTo()
	}
	return i, err
}

// feed copies the caller's input until its end, which it passes on.
func (i *input) feed(from io.Reader) {
	if i.pipe == nil {
		return
	}
	go func() {
		io.Copy(i.pipe, from) // what the command does not read any more is nobody's concern
		i.pipe.Close()
	}()
}

// serveTerminal takes the terminal from the command's side, before the command runs, and serves it to its end.
func (i *input) serveTerminal(out *pumps, s spec.Streams) {
	master, err := receiveTerminal(i.socket)
	if err != nil {
		return // nothing was run: the outcome says why
	}
	t := &terminal{File: master}
	out.start(t.File, s.Stdout)
	go t.resize(s.Resize, i.ended)
	if s.Stdin != nil {
		go t.feed(s.Stdin)
	}
}

// over: a terminal that has not come will not come.
func (i *input) over() {
	close(i.ended)
	if i.socket != nil {
		i.socket.SetReadDeadline(time.Unix(1, 0))
	}
}

func (i *input) close() {
	i.pipe.Close() // of a nil file: an error, and no harm
	if i.socket != nil {
		i.socket.Close()
	}
}
