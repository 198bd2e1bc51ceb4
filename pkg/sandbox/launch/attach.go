package launch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/shim"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Attach carries a running container's output to the caller from now on, and the caller's input to the container, until
// the container ends or ctx does. Output goes to each attachment on its own: a caller that does not read misses some,
// and is told how much, on its Stderr or its terminal, where it is missing; the call ends with ResourceExhausted then.
//
// The end of Stdin, or of the session, ends the container's input where that reads one session only, unless left, which
// may be nil, is closed: then it is the daemon that leaves, not the caller. Reads and writes of the caller's streams that
// are in progress when it returns are the caller's to end.
func (s *Launcher) Attach(ctx context.Context, l spec.Launch, streams spec.Streams, left <-chan struct{}) error {
	client := shim.Client{Socket: l.Layout.ShimSocket(l.ContainerID)}
	want := shim.Streams{
		Stdin:  streams.Stdin != nil && l.Stdin,
		Stdout: streams.Stdout != nil,
		Stderr: streams.Stderr != nil && !l.TTY,
	}
	conn, err := client.Attach(ctx, want)
	if err != nil {
		return err
	}
	a := &attachment{Attachment: conn, streams: streams, tty: l.TTY, over: make(chan struct{})}
	defer a.close(left)
	if conn.Input != nil {
		go a.feed()
	}
	if l.TTY && streams.Resize != nil {
		go a.resize(ctx, client)
	}
	done := make(chan error, 1)
	go func() { done <- a.follow() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// attachment is one session, seen from the daemon.
type attachment struct {
	*shim.Attachment
	streams spec.Streams
	tty     bool
	lost    uint64
	over    chan struct{} // closed at the session's end
	once    sync.Once     // the end of its input is said once
}

// follow takes what comes until the container's end.
func (a *attachment) follow() error {
	for {
		f, err := a.Next()
		switch {
		case errors.Is(err, io.EOF) && a.lost > 0 && !a.tty: // what was missing on a screen was said there
			return spec.Errorf(errdefs.ErrResourceExhausted,
				"%d bytes of the container's output are missing: they were not taken fast enough; its log has them", a.lost)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if err := a.carry(f); err != nil {
			return fmt.Errorf("output of an attachment: %w", err)
		}
	}
}

func (a *attachment) carry(f shim.Frame) (err error) {
	switch f.Kind {
	case shim.Stdout:
		_, err = a.streams.Stdout.Write(f.Data)
	case shim.Stderr:
		_, err = a.streams.Stderr.Write(f.Data)
	case shim.Closed:
		a.Input.Close()
	case shim.Lost:
		a.lost += f.Lost
		err = a.mark(f.Lost)
	}
	return err
}

// mark tells a person where output is missing. Stdout of a program is data, and gets no such mark.
func (a *attachment) mark(lost uint64) error {
	text := fmt.Sprintf("\n[%d bytes of output are missing here; the container's log has them]\n", lost)
	to := a.streams.Stderr
	if a.tty {
		to = returns{a.streams.Stdout}
	}
	if to == nil {
		return nil
	}
	_, err := io.WriteString(to, text)
	return err
}

// feed copies the caller's input until its end.
func (a *attachment) feed() {
	io.Copy(a.Input, a.streams.Stdin)
	a.Input.Close()
	a.inputOver()
}

func (a *attachment) inputOver() { a.once.Do(func() { a.InputOver() }) }

// resize follows the caller's window.
func (a *attachment) resize(ctx context.Context, c shim.Client) {
	for {
		select {
		case size, more := <-a.streams.Resize:
			if !more {
				return
			}
			c.Resize(ctx, size.Width, size.Height) // a size that does not come through is followed by another, or by none
		case <-a.over:
			return
		}
	}
}

func (a *attachment) close(left <-chan struct{}) {
	close(a.over)
	a.Interrupt()
	select {
	case <-left: // never of nil
	default:
		if a.streams.Stdin != nil {
			a.inputOver()
		}
	}
	a.Close()
}
