package main

import (
	"bytes"
	"context"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/runtimed/runtimed/cmd/runtimed/session"
	"github.com/runtimed/runtimed/pkg/cri/control/controlpb"
	"github.com/runtimed/runtimed/pkg/logs"
)

// shown is what the output of a container is made of.
type shown struct {
	path     string        // of its log
	ended    chan struct{} // closed when the container has
	opened   func()        // called when whatever is written from now on will be shown
	terminal *session.Terminal
}

// raw puts the user's terminal into raw mode where it becomes the container's.
func (r *runner) raw() (*session.Terminal, error) {
	if !r.flags.interactive || !r.flags.tty {
		return nil, nil
	}
	return session.Raw(r.stdin)
}

// show prints what the container writes, and passes input on. Without a terminal the log has it all. With one, nothing
// but an attachment is fast enough to type into; what was written before it was there is in the log.
func (r *runner) show(ctx context.Context, s *signals, o shown) error {
	switch {
	case r.flags.tty:
		return r.showTerminal(ctx, s, o)
	case r.flags.interactive:
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		go r.session(ctx, o, session.Options{Stdin: r.stdin, Stdout: io.Discard, Stderr: io.Discard})
	}
	return r.follow(ctx, o.path, o.ended, o.opened)
}

// session attaches to the container.
func (r *runner) session(ctx context.Context, o shown, so session.Options) error {
	so.Begin = &controlpb.StreamInput{Message: &controlpb.StreamInput_BeginAttach{BeginAttach: &controlpb.BeginAttach{
		ContainerId: r.container, Stdin: so.Stdin != nil, Size: o.terminal.Size(),
	}}}
	call, err := r.client.Control.Attach(ctx)
	if err == nil {
		_, err = session.Run(call, so)
	}
	return err
}

// settleTime is how long nothing must come before what was first is shown: the monitor puts an unfinished line into the
// log when a session with a terminal begins.
const settleTime = 250 * time.Millisecond

func (r *runner) showTerminal(ctx context.Context, s *signals, o shown) error {
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	out := &held{to: r.stdout}
	so := session.Options{Stdout: out, Stderr: out, Terminal: o.terminal, Keys: r.flags.keys}
	if r.flags.interactive {
		so.Stdin = r.stdin
	}
	started, done := make(chan struct{}), make(chan error, 1)
	so.Started = sync.OnceFunc(func() { close(started) })
	go func() { done <- r.session(inner, o, so) }()
	var err error
	select {
	case <-started:
		o.opened()
		err = r.live(inner, o, out, done)
	case err = <-done:
	}
	switch {
	case err == session.ErrDetached:
		s.leave(session.ErrDetached)
		return nil
	case status.Code(err) == codes.FailedPrecondition || status.Code(err) == codes.NotFound: // it has ended already
		err = nil
	case err != nil && ctx.Err() == nil && out.failed() == nil:
		r.say("the terminal's session ended; what follows is the container's log: %v", err)
		err = nil
	}
	if e := out.failed(); e != nil {
		return e
	}
	if err == nil && !out.released() {
		<-o.ended
		err = out.release(earlier(r.logged(ctx, o.path), out.bytes()))
	}
	return err
}

// live shows what is held back as soon as it is known what was before.
func (r *runner) live(ctx context.Context, o shown, out *held, done <-chan error) error {
	tick := time.NewTicker(settleTime / 5)
	defer tick.Stop()
	var last []byte
	quiet, begin := 0, time.Now()
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
		}
		now := append(r.logged(ctx, o.path), out.bytes()...)
		if quiet++; !bytes.Equal(now, last) {
			quiet, last = 0, now
		}
		if quiet >= 5 || time.Since(begin) > 10*settleTime {
			if err := out.release(earlier(r.logged(ctx, o.path), out.bytes())); err != nil {
				return err
			}
			return <-done
		}
	}
}

// logged is what the log holds.
func (r *runner) logged(ctx context.Context, path string) []byte {
	var b bytes.Buffer
	if path != "" {
		logs.Read(ctx, logs.Options{Path: path, Tail: logs.All, Stdout: &b, Stderr: &b}) // what cannot be read is not there yet
	}
	return b.Bytes()
}

// earlier is what of a log was written before the first of what an attachment has got: the log ends with that, or with
// its beginning.
func earlier(log, attached []byte) []byte {
	for n := min(len(log), len(attached)); n > 0; n-- {
		if bytes.HasSuffix(log, attached[:n]) {
			return log[:len(log)-n]
		}
	}
	return log
}

// held keeps what is written to it until it is released.
type held struct {
	to io.Writer

	mu   sync.Mutex
	b    []byte
	open bool
	err  error
}

func (h *held) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.open {
		h.b = append(h.b, b...)
		return len(b), nil
	}
	n, err := h.to.Write(b)
	if err != nil {
		h.err = err
	}
	return n, err
}

// release writes what was before, what was held, and from now on whatever comes.
func (h *held) release(before []byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open = true
	_, h.err = h.to.Write(append(bytes.Clone(before), h.b...))
	return h.err
}

func (h *held) bytes() []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return bytes.Clone(h.b)
}

func (h *held) released() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.open
}

func (h *held) failed() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}
