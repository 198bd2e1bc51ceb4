package sandbox

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// listen serves each connection to a port of this machine's loopback.
func listen(t *testing.T, serve func(c *net.TCPConn)) (port uint16) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c.(*net.TCPConn))
			}()
		}
	}()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

// pair is a connection: the caller's end, and what PortForward is given.
func pair(t *testing.T) (caller, given *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a.(*net.TCPConn), b.(*net.TCPConn)
}

// Each side may say all it has, and end, before the other begins.
func TestPortForwardHalfCloses(t *testing.T) {
	w := newWorld()
	r := newRuntime(t, w, t.TempDir(), nil)
	sid, _ := mustRun(t, r, "a")
	big := bytes.Repeat([]byte("0123456789"), 1<<20)
	for name, c := range map[string]struct {
		pod    func(c *net.TCPConn)
		caller func(c *net.TCPConn) []byte
	}{
		"the caller ends first": {
			func(c *net.TCPConn) { b, _ := io.ReadAll(c); c.Write(b) },
			func(c *net.TCPConn) []byte { c.Write(big); c.CloseWrite(); b, _ := io.ReadAll(c); return b },
		},
		"the pod ends first": {
			func(c *net.TCPConn) {
				c.Write([]byte("bye"))
				c.CloseWrite()
				if b, _ := io.ReadAll(c); !bytes.Equal(b, big) {
					t.Errorf("the pod got %d bytes", len(b))
				}
			},
			func(c *net.TCPConn) []byte {
				b, _ := io.ReadAll(c)
				c.Write(big)
				c.CloseWrite()
				return append(b, big[3:]...)
			},
		},
	} {
		caller, given := pair(t)
		done := make(chan error, 1)
		go func() { done <- r.PortForward(t.Context(), sid[:13], listen(t, c.pod), given) }()
		if got := c.caller(caller); len(got) != len(big) {
			t.Errorf("%s: the caller got %d bytes", name, len(got))
		}
		if err := <-done; err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if w.dialled != r.Layout.NetnsPin(sid) {
		t.Errorf("connected in %q", w.dialled)
	}
}

// stream is an end of a SPDY stream, as far as PortForward is concerned: Close ends one direction.
type stream struct {
	io.Reader
	io.Writer
	closed chan struct{}
}

func (s *stream) Close() error {
	select {
	case <-s.closed:
	default:
		close(s.closed)
	}
	return nil
}

func TestPortForwardOverAStream(t *testing.T) {
	r := newRuntime(t, newWorld(), t.TempDir(), nil)
	sid, _ := mustRun(t, r, "a")
	in, w := io.Pipe()
	var out bytes.Buffer
	s := &stream{Reader: in, Writer: &out, closed: make(chan struct{})}
	got := make(chan string, 1)
	port := listen(t, func(c *net.TCPConn) {
		c.Write([]byte("bye"))
		c.CloseWrite()
		b, _ := io.ReadAll(c)
		got <- string(b)
	})
	done := make(chan error, 1)
	go func() { done <- r.PortForward(t.Context(), sid, port, s) }()
	<-s.closed
	io.WriteString(w, "after the pod's end")
	w.Close()
	if err := <-done; err != nil || out.String() != "bye" {
		t.Errorf("got %q, %v", out.String(), err)
	}
	if b := <-got; b != "after the pod's end" {
		t.Errorf("the pod got %q", b)
	}
}

func TestPortForwardEnds(t *testing.T) {
	for name, c := range map[string]struct {
		pod  func(c *net.TCPConn)
		end  func(r *Runtime, sid string, cancel func(), caller *net.TCPConn)
		kind error
		text string
	}{
		"the caller leaves": {
			func(c *net.TCPConn) { io.Copy(c, c) },
			func(_ *Runtime, _ string, _ func(), c *net.TCPConn) { c.Close() }, nil, ""},
		"ctx ends": {
			func(c *net.TCPConn) { io.Copy(io.Discard, c) },
			func(_ *Runtime, _ string, cancel func(), _ *net.TCPConn) { cancel() }, context.Canceled, ""},
		"ctx ends behind the pod's end": {
			func(c *net.TCPConn) { c.CloseWrite(); io.Copy(io.Discard, c) },
			func(_ *Runtime, _ string, cancel func(), c *net.TCPConn) { io.ReadAll(c); cancel() }, context.Canceled, ""},
		"the pod breaks off": {
			func(c *net.TCPConn) { c.SetLinger(0); c.Read(make([]byte, 1)) },
			func(_ *Runtime, _ string, _ func(), c *net.TCPConn) { c.Write([]byte("x")) }, errdefs.ErrUnavailable, "reset by peer"},
		"the sandbox stops": {
			func(c *net.TCPConn) { io.Copy(io.Discard, c) },
			func(r *Runtime, sid string, _ func(), _ *net.TCPConn) { r.StopSandbox(context.Background(), sid) },
			errdefs.ErrFailedPrecondition, "being stopped"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRuntime(t, newWorld(), t.TempDir(), nil)
			sid, _ := mustRun(t, r, "a")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			caller, given := pair(t)
			done := make(chan error, 1)
			begun := make(chan struct{})
			port := listen(t, func(conn *net.TCPConn) {
				close(begun)
				c.pod(conn)
			})
			go func() { done <- r.PortForward(ctx, sid, port, given) }()
			<-begun
			c.end(r, sid, cancel, caller)
			err := <-done
			if c.kind == nil && err != nil || c.kind != nil && !errors.Is(err, c.kind) || err != nil && !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v", err)
			}
			if _, err := given.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
				t.Errorf("its end is left open: %v", err)
			}
		})
	}
}

func TestPortForwardRefused(t *testing.T) {
	r := newRuntime(t, newWorld(), t.TempDir(), nil)
	sid, _ := mustRun(t, r, "a")
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	gone := uint16(l.Addr().(*net.TCPAddr).Port)
	for _, c := range []struct {
		sid  string
		port uint16
		kind error
		text string
	}{
		{"ffff", 80, errdefs.ErrNotFound, `no sandbox "ffff"`},
		{sid, 0, errdefs.ErrInvalidArgument, "port 0"},
		{sid, gone, errdefs.ErrUnavailable, "connection refused"},
	} {
		_, given := pair(t)
		err := r.PortForward(t.Context(), c.sid, c.port, given)
		if spec.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%v", err)
		}
	}
	if err := r.StopSandbox(t.Context(), sid); err != nil {
		t.Fatal(err)
	}
	_, given := pair(t)
	if err := r.PortForward(t.Context(), sid, gone, given); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("a stopped sandbox: %v", err)
	}
}
