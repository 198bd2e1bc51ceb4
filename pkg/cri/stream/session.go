package stream

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"time"

	"k8s.io/streaming/pkg/httpstream/wsstream"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// statusTime bounds the writing of a session's outcome to a client that reads slowly.
const statusTime = 30 * time.Second

// begin serves one session to its end.
func (s *Server) begin(w http.ResponseWriter, r *http.Request, t ticket) {
	s.sessions.Add(1)
	defer s.sessions.Done()
	ctx, cancel := context.WithCancelCause(s.quit)
	u := &upgrading{ResponseWriter: w, cancel: cancel}
	start := time.Now()
	defer func() {
		if p := recover(); p != nil {
			s.Log.Error("a bug: a streaming session ended in a panic", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
		cancel(nil)
		s.release(u.conn())
	}()
	u.disarm = context.AfterFunc(ctx, func() { // what waits for the client waits no longer
		if c := u.conn(); c != nil {
			c.cut()
		}
	})
	defer u.disarm()
	err := s.serve(ctx, u, r, t)
	s.Log.Info("a streaming session ended", "verb", t.verb, "target", targetID(t.target), "peer", r.RemoteAddr,
		"duration", time.Since(start), "error", err)
}

// release lets the client take the last of what was sent, unless the server is to end.
func (s *Server) release(c *conn) {
	if c == nil {
		return
	}
	c.Close()
	select {
	case <-c.drained:
	case <-s.quit.Done():
		c.cut()
		<-c.drained
	}
}

func targetID(target any) string {
	switch t := target.(type) {
	case ExecTarget:
		return t.ContainerID
	case AttachTarget:
		return t.ContainerID
	case PortForwardTarget:
		return t.SandboxID
	}
	return ""
}

func (s *Server) serve(ctx context.Context, u *upgrading, r *http.Request, t ticket) error {
	switch target := t.target.(type) {
	case ExecTarget:
		return s.remote(ctx, u, r, target.Wanted, func(ctx context.Context, streams spec.Streams) outcome {
			streams.TTY = target.Wanted.TTY
			code, err := s.runtime.Exec(ctx, spec.StreamRequest{ContainerID: target.ContainerID, Command: target.Command, Streams: streams})
			return outcome{code: code, err: err}
		})
	case AttachTarget:
		return s.remote(ctx, u, r, target.Wanted, func(ctx context.Context, streams spec.Streams) outcome {
			streams.TTY = target.TTY
			if target.TTY {
				streams.Stderr = nil
			} else {
				streams.Resize = nil
			}
			return outcome{err: s.runtime.Attach(ctx, target.ContainerID, streams)}
		})
	case PortForwardTarget:
		return s.portForward(ctx, u, r, target)
	}
	return fmt.Errorf("a ticket for %T", t.target) // unreachable: sell takes no other
}

// remote serves what has standard streams.
func (s *Server) remote(ctx context.Context, u *upgrading, r *http.Request, want Wanted, run func(context.Context, spec.Streams) outcome) error {
	open := openSPDY
	if wsstream.IsWebSocketRequest(r) {
		open = openWebSocket
	}
	c, err := open(ctx, u, r, setup{want: want, patience: s.SetupTimeout})
	if err != nil {
		return err
	}
	defer func() {
		u.disarm() // the library's end of the connection is not the client's
		c.close()
	}()
	ctx, end := context.WithCancel(ctx)
	defer end()
	go u.conn().watch(ctx, s.IdleTimeout, func() { c.outcome.Write(nil) })
	streams := spec.Streams{Stdin: reader(c.stdin), Stdout: writer(c.stdout), Stderr: writer(c.stderr)}
	if want.TTY && c.resize != nil {
		streams.Resize = sizes(ctx, c.resize)
	}
	result := run(ctx, streams)
	if ctx.Err() != nil {
		return context.Cause(ctx) // nobody is there to be told
	}
	u.conn().SetWriteDeadline(time.Now().Add(statusTime))
	for _, w := range []io.Closer{c.stdout, c.stderr} {
		if w != nil {
			w.Close() // its end comes before the outcome
		}
	}
	if err := c.tell(result.status()); err != nil {
		return fmt.Errorf("the outcome could not be told: %w", err)
	}
	return result.err
}

// reader and writer make nil interfaces of nil streams.
func reader(r io.ReadCloser) io.Reader {
	if r == nil {
		return nil
	}
	return r
}

func writer(w io.WriteCloser) io.Writer {
	if w == nil {
		return nil
	}
	return w
}
