package shim

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/monitor"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Timeout is how long a call waits at most, connection and answer together. A context may end it earlier.
// Whoever waits for the call has its answer within two seconds, then.
const Timeout = 1500 * time.Millisecond

// Client asks the monitor behind one socket.
type Client struct {
	Socket string // absolute path
}

// Ping returns nil when the monitor answers.
func (c Client) Ping(ctx context.Context) error {
	_, err := c.ask(ctx, monitor.Request{Verb: monitor.Ping})
	return err
}

// ReopenLog makes the monitor go on in a new file at the log's path. When it returns nil, no byte goes to the old file
// any more. When the monitor refuses, FailedPrecondition, the old file stays in use and no file was made.
func (c Client) ReopenLog(ctx context.Context) error {
	_, err := c.ask(ctx, monitor.Request{Verb: monitor.Reopen})
	return err
}

// Resize sets the size of the container's terminal, in cells. It is FailedPrecondition without one.
func (c Client) Resize(ctx context.Context, width, height uint16) error {
	_, err := c.ask(ctx, monitor.Request{Verb: monitor.Resize, Width: width, Height: height})
	return err
}

// Stats returns the monitor's counters.
func (c Client) Stats(ctx context.Context) (monitor.Counters, error) {
	text, err := c.ask(ctx, monitor.Request{Verb: monitor.Stats})
	if err != nil {
		return monitor.Counters{}, err
	}
	n, err := monitor.ParseCounters(text)
	if err != nil {
		return monitor.Counters{}, spec.Errorf(errdefs.ErrInternal, "ask the container's shim for its counters: %w", err)
	}
	return n, nil
}

func (c Client) ask(ctx context.Context, r monitor.Request) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	text, err := c.exchange(ctx, r)
	if err != nil {
		return "", explain(ctx, r.Verb, err)
	}
	return text, nil
}

// sleep is false when ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func (c Client) exchange(ctx context.Context, r monitor.Request) (string, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := conn.Write(r.Append(nil)); err != nil {
		return "", err
	}
	reply := make([]byte, monitor.PacketMax)
	n, err := conn.Read(reply)
	if err != nil {
		return "", err
	}
	return monitor.ParseReply(reply[:n])
}

// dial connects. A monitor that does not accept lets its queue fill up, and then connect(2) does not wait but says
// EAGAIN: this waits for it.
func (c Client) dial(ctx context.Context) (net.Conn, error) {
	const pause = 20 * time.Millisecond
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "unixpacket", c.Socket)
		if !errors.Is(err, syscall.EAGAIN) {
			return conn, err
		}
		if !sleep(ctx, pause) {
			return nil, ctx.Err()
		}
	}
}

// explain gives an error its kind.
func explain(ctx context.Context, verb string, err error) error {
	var remote *monitor.RemoteError
	switch {
	case errors.As(err, &remote):
		return spec.Errorf(errdefs.ErrFailedPrecondition, "the container's shim refuses %q: %w", verb, err)
	case errors.Is(err, monitor.ErrReply):
		return spec.Errorf(errdefs.ErrInternal, "ask the container's shim to %s: %w", verb, err)
	case errors.Is(ctx.Err(), context.Canceled):
		return spec.Errorf(context.Canceled, "ask the container's shim to %s: the caller gave up", verb)
	case ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded):
		return spec.Errorf(context.DeadlineExceeded, "the container's shim does not answer %q in time; it may be stopped", verb)
	}
	return spec.Errorf(errdefs.ErrUnavailable, "the container's shim is gone: %w", err)
}
