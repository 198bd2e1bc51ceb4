package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/websocket"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// maxForwarded is how many connections to a pod one session may carry at a time.
const maxForwarded = 256

// maxFrame bounds a WebSocket message that carries a piece of a tunnel, in bytes.
const maxFrame = 1 << 20

// portForward serves a session that carries any number of connections to a pod, one after the other and side by side.
func (s *Server) portForward(ctx context.Context, u *upgrading, r *http.Request, t PortForwardTarget) error {
	f := &forwarding{server: s, target: t, pairs: map[string]*pair{}}
	switch {
	case wsstream.IsWebSocketRequestWithTunnelingProtocol(r):
		return f.tunnel(ctx, u, r)
	case wsstream.IsWebSocketRequest(r):
		return f.channels(ctx, u, r)
	}
	if _, err := httpstream.Handshake(r, u, []string{portforward.ProtocolV1Name}); err != nil {
		return err // the client has been told
	}
	in, handler := arrivals(ctx, f.check)
	c := spdy.NewResponseUpgrader().UpgradeResponse(u, r, handler)
	if c == nil {
		return errors.New("no upgrade to SPDY") // the client has been told
	}
	go u.conn().watch(ctx, s.IdleTimeout, nil)
	return f.run(ctx, c, in)
}

// tunnel is SPDY inside a WebSocket.
func (f *forwarding) tunnel(ctx context.Context, u *upgrading, r *http.Request) (err error) {
	websocket.Server{
		Handshake: func(c *websocket.Config, _ *http.Request) error {
			if !slices.Contains(c.Protocol, portforward.WebsocketsSPDYTunnelingPortForwardV1) {
				return websocket.ErrBadWebSocketProtocol
			}
			c.Protocol = []string{portforward.WebsocketsSPDYTunnelingPortForwardV1}
			return nil
		},
		Handler: func(ws *websocket.Conn) {
			ws.PayloadType, ws.MaxPayloadBytes = websocket.BinaryFrame, maxFrame
			in, handler := arrivals(ctx, f.check)
			var c httpstream.Connection
			if c, err = spdy.NewServerConnection(ws, handler); err != nil {
				return
			}
			go u.conn().watch(ctx, f.server.IdleTimeout, nil)
			err = f.run(ctx, c, in)
		},
	}.ServeHTTP(u, r)
	if u.conn() == nil && err == nil {
		err = websocket.ErrBadWebSocketProtocol // the client has been told
	}
	return err
}

// channels is the WebSocket protocol before there was a tunnel: two channels for each port of the request.
func (f *forwarding) channels(ctx context.Context, u *upgrading, r *http.Request) error {
	if len(f.target.Ports) == 0 || len(f.target.Ports) > 64 { // a channel's number is a byte
		http.Error(u, "this protocol takes 1 to 64 ports, named in the PortForward call", http.StatusBadRequest)
		return errors.New("no ports for WebSocket channels")
	}
	o := &portforward.V4Options{}
	for _, p := range f.target.Ports {
		o.Ports = append(o.Ports, int32(p))
	}
	portforward.ServePortForward(u, r, inContext{f, ctx, u}, f.target.SandboxID, "", o, f.server.IdleTimeout, f.server.SetupTimeout, nil)
	return nil
}

// inContext gives the library's forwardings the session's context: they come with one that never ends.
type inContext struct {
	f   *forwarding
	ctx context.Context
	u   *upgrading
}

// PortForward implements portforward.PortForwarder.
func (c inContext) PortForward(_ context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	go c.u.conn().watch(ctx, c.f.server.IdleTimeout, nil)
	return c.f.server.runtime.PortForward(ctx, c.f.target.SandboxID, uint16(port), stream)
}

// forwarding is one session.
type forwarding struct {
	server *Server
	target PortForwardTarget

	mu    sync.Mutex
	pairs map[string]*pair // by request id; both of a pair's streams are not there yet
	live  int
	work  sync.WaitGroup
}

// pair are the two streams of a connection to a pod.
type pair struct {
	data, fault httpstream.Stream
	port        uint16
	complete    chan struct{}
}

// check refuses a stream that no connection can come of.
func (f *forwarding) check(s httpstream.Stream) error {
	if _, err := f.port(s); err != nil {
		return err
	}
	if kind := s.Headers().Get(portforward.StreamType); kind != portforward.StreamTypeData && kind != portforward.StreamTypeError {
		return fmt.Errorf("%s %.32q is neither data nor error", portforward.StreamType, kind)
	}
	return nil
}

func (f *forwarding) port(s httpstream.Stream) (uint16, error) {
	text := s.Headers().Get(portforward.PortHeader)
	port, err := strconv.ParseUint(text, 10, 16)
	switch {
	case err != nil || port == 0:
		return 0, fmt.Errorf("%.32q is not a port: 1 to 65535 are", text)
	case len(f.target.Ports) > 0 && !slices.Contains(f.target.Ports, uint16(port)):
		return 0, fmt.Errorf("port %d was not named in the PortForward call", port)
	}
	return uint16(port), nil
}

// requestID pairs the streams of clients that name no request: theirs have neighbouring numbers, the error stream's first.
func requestID(s httpstream.Stream) string {
	if id := s.Headers().Get(portforward.PortForwardRequestIDHeader); id != "" {
		return id
	}
	n := s.Identifier()
	if s.Headers().Get(portforward.StreamType) == portforward.StreamTypeData {
		n -= 2
	}
	return "stream " + strconv.FormatUint(uint64(n), 10)
}

// run takes streams until the connection or ctx ends, and waits for what it began.
func (f *forwarding) run(ctx context.Context, c httpstream.Connection, in <-chan arrival) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer f.work.Wait()
	defer c.Close()
	defer cancel(errGone)
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.CloseChan():
			return nil // a client that has closed what it opened
		case s := <-in:
			select {
			case <-s.replied:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if err := f.add(ctx, c, s.Stream); err != nil {
				s.Reset()
				c.RemoveStreams(s.Stream)
			}
		}
	}
}

// add puts a stream to its pair, and lets a pair that is whole go.
func (f *forwarding) add(ctx context.Context, c httpstream.Connection, s httpstream.Stream) error {
	port, err := f.port(s)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	id := requestID(s)
	p := f.pairs[id]
	if p == nil {
		if f.live >= maxForwarded {
			return fmt.Errorf("%d connections at one time are possible", maxForwarded)
		}
		f.live++
		p = &pair{port: port, complete: make(chan struct{})}
		f.pairs[id] = p
		f.work.Go(func() { f.carry(ctx, c, id, p) })
	}
	slot := &p.data
	if s.Headers().Get(portforward.StreamType) == portforward.StreamTypeError {
		slot = &p.fault
	}
	if *slot != nil || p.port != port {
		return fmt.Errorf("request %.32q has this stream already, or another port", id)
	}
	*slot = s
	if p.data != nil && p.fault != nil {
		delete(f.pairs, id)
		close(p.complete)
	}
	return nil
}

// carry waits for a pair to be whole, and is its connection then.
func (f *forwarding) carry(ctx context.Context, c httpstream.Connection, id string, p *pair) {
	late := time.NewTimer(f.server.SetupTimeout)
	defer late.Stop()
	select {
	case <-p.complete:
		f.forward(ctx, p)
	case <-late.C:
	case <-ctx.Done():
	}
	f.mu.Lock()
	if f.pairs[id] == p {
		delete(f.pairs, id)
	}
	f.live--
	streams := []httpstream.Stream{p.data, p.fault}
	f.mu.Unlock()
	for _, s := range streams {
		if s != nil {
			s.Reset() // of one that has ended: nothing is sent
			c.RemoveStreams(s)
		}
	}
}

func (f *forwarding) forward(ctx context.Context, p *pair) {
	err := f.server.runtime.PortForward(ctx, f.target.SandboxID, p.port, p.data)
	if err != nil && ctx.Err() == nil {
		f.server.Log.Info("a port could not be forwarded", "sandbox", f.target.SandboxID, "port", p.port, "error", err)
		fmt.Fprintf(p.fault, "port %d of pod %s: %v", p.port, f.target.SandboxID, err)
		p.fault.Close()
		return // and the data stream is reset
	}
	p.data.Close()
	p.fault.Close()
}
