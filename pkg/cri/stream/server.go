package stream

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Runtime is what sessions are with. All of it returns soon after ctx has ended.
type Runtime interface {
	// Exec runs a command in a running container and returns its exit code.
	Exec(ctx context.Context, r spec.StreamRequest) (exitCode int32, err error)
	// Attach connects the streams with a running container's, until its end or theirs.
	Attach(ctx context.Context, containerID string, s spec.Streams) error
	// PortForward connects conn with a port of the sandbox. A Close of conn ends what is sent to the client, and no more.
	PortForward(ctx context.Context, sandboxID string, port uint16, conn io.ReadWriteCloser) error
}

// Wanted are the streams that a client is going to open.
type Wanted struct{ Stdin, Stdout, Stderr, TTY bool }

// ExecTarget is a command in a container.
type ExecTarget struct {
	ContainerID string
	Command     []string
	Wanted      Wanted
}

// AttachTarget is a container's own program. Wanted is what the client believes to be there; TTY is what is.
type AttachTarget struct {
	ContainerID string
	Wanted      Wanted
	TTY         bool
}

// PortForwardTarget is a pod. With Ports, others are refused.
type PortForwardTarget struct {
	SandboxID string
	Ports     []uint16
}

// Options of Listen; Address is needed.
type Options struct {
	// Address to listen on; its port may be 0. An address that is not loopback needs TLS with client certificates.
	Address netip.AddrPort
	// TLS is nil for plain HTTP.
	TLS *tls.Config
	// IdleTimeout is how long a session may carry nothing in either direction. Default 4 h, as the kubelet's.
	IdleTimeout time.Duration
	// SetupTimeout is how long a client may take for its headers, and again for opening its streams. Default 30 s.
	SetupTimeout time.Duration
	Log          *slog.Logger
	Now          func() time.Time
}

const (
	// maxHeader bounds a request's headers, in bytes. net/http adds 4 KiB of its own.
	maxHeader = 16 << 10
	// maxConns bounds the connections, sessions or not: each costs a descriptor of the daemon's.
	maxConns = 2048
)

// Server serves sessions.
type Server struct {
	Options
	runtime  Runtime
	tickets  *tickets
	listener net.Listener
	http     *http.Server
	host     string // of the addresses that are given out

	quit     context.Context // ends all sessions
	cancel   context.CancelFunc
	sessions sync.WaitGroup
}

// Listen takes the address. Nothing is answered before Serve.
func Listen(o Options, r Runtime) (*Server, error) {
	o.IdleTimeout = cmp.Or(o.IdleTimeout, 4*time.Hour)
	o.SetupTimeout = cmp.Or(o.SetupTimeout, 30*time.Second)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if o.Now == nil {
		o.Now = time.Now
	}
	if err := Check(o.Address, o.TLS != nil && o.TLS.ClientAuth == tls.RequireAndVerifyClientCert); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", o.Address.String())
	if err != nil {
		return nil, spec.Errorf(errdefs.ErrUnavailable, "streaming address %s: %w", o.Address, err)
	}
	s := &Server{Options: o, runtime: r, tickets: newTickets(o.Now), host: l.Addr().String()}
	s.quit, s.cancel = context.WithCancel(context.Background())
	s.listener = newLimited(l, maxConns)
	if o.TLS != nil {
		s.TLS = o.TLS.Clone()
		s.TLS.NextProtos = []string{"http/1.1"} // an HTTP/2 connection cannot be upgraded
		s.listener = tls.NewListener(s.listener, s.TLS)
	}
	s.http = &http.Server{
		Handler: s, ReadHeaderTimeout: o.SetupTimeout, IdleTimeout: o.SetupTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog:    slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return s.quit },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
	}
	return s, nil
}

// Check refuses an address that sessions should not be served on: one that stands for several, because clients are told
// it, and one that others than this node's processes reach, unless they must show a certificate.
func Check(a netip.AddrPort, clientCerts bool) error {
	switch {
	case !a.IsValid() || a.Addr().Zone() != "":
		return spec.Invalidf("the streaming address %q is not an IP address with a port", a)
	case a.Addr().IsUnspecified():
		return spec.Invalidf("the streaming address %s stands for every address of the node: name one, such as 127.0.0.1", a.Addr())
	case !a.Addr().IsLoopback() && !clientCerts:
		return spec.Invalidf("the streaming address %s can be reached from other machines: that takes TLS and a client CA", a.Addr())
	}
	return nil
}

// Serve answers until Close, then returns nil.
func (s *Server) Serve() error {
	err := s.http.Serve(s.listener)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Close stops listening and ends all sessions. It returns when none is left, or when ctx ends.
func (s *Server) Close(ctx context.Context) {
	s.cancel()
	s.http.Close()
	s.listener.Close() // also where Serve was never called
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.sessions.Wait()
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// Exec returns the address of a session that runs a command.
func (s *Server) Exec(t ExecTarget) (string, error) { return s.sell(verbExec, t) }

// Attach returns the address of a session with a container.
func (s *Server) Attach(t AttachTarget) (string, error) { return s.sell(verbAttach, t) }

// PortForward returns the address of a session that reaches a pod's ports.
func (s *Server) PortForward(t PortForwardTarget) (string, error) { return s.sell(verbPortForward, t) }

func (s *Server) sell(verb string, target any) (string, error) {
	if s.quit.Err() != nil {
		return "", spec.Errorf(errdefs.ErrUnavailable, "runtimed is stopping")
	}
	token, err := s.tickets.issue(ticket{verb: verb, target: target})
	if err != nil {
		return "", err
	}
	scheme := "http"
	if s.TLS != nil {
		scheme = "https"
	}
	return (&url.URL{Scheme: scheme, Host: s.host, Path: "/" + verb + "/" + token}).String(), nil
}

// limited accepts a number of connections at a time; the others are closed before a byte is read.
type limited struct {
	net.Listener
	free chan struct{}
}

func newLimited(l net.Listener, n int) limited {
	return limited{Listener: l, free: make(chan struct{}, n)}
}

func (l limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.free <- struct{}{}:
			return &counted{Conn: c, release: sync.OnceFunc(func() { <-l.free })}, nil
		default:
			c.Close()
		}
	}
}

type counted struct {
	net.Conn
	release func()
}

func (c *counted) Close() error {
	defer c.release()
	return c.Conn.Close()
}

// CloseWrite ends our half of the connection.
func (c *counted) CloseWrite() error { return c.Conn.(*net.TCPConn).CloseWrite() }
