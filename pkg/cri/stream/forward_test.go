package stream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/websocket"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"

	"github.com/runtimed/runtimed/pkg/cri/fake"
)

func forward(t *testing.T, s *Server, ports ...uint16) string {
	t.Helper()
	return must[string](t)(s.PortForward(PortForwardTarget{SandboxID: id, Ports: ports}))
}

// forwarder dials with SPDY, or SPDY in a WebSocket.
func forwarder(t *testing.T, address string, tunnel bool) httpstream.Connection {
	t.Helper()
	var c httpstream.Connection
	if tunnel {
		ws := dialWebSocket(t, address, "SPDY/3.1+portforward.k8s.io")
		ws.SetDeadline(time.Time{})
		c = must[httpstream.Connection](t)(spdy.NewClientConnection(ws))
	} else {
		c = must[httpstream.Connection](t)(dialSPDY(t, address, nil, "portforward.k8s.io"))
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// connect opens a connection to a port.
func connect(t *testing.T, c httpstream.Connection, request, port string) (data, fault httpstream.Stream) {
	t.Helper()
	h := http.Header{}
	h.Set("port", port)
	if request != "" {
		h.Set("requestID", request)
	}
	h.Set("streamType", "error")
	fault = must[httpstream.Stream](t)(c.CreateStream(h))
	h.Set("streamType", "data")
	return must[httpstream.Stream](t)(c.CreateStream(h)), fault
}

func TestForwardsManyConnectionsSideBySide(t *testing.T) {
	for _, tunnel := range []bool{false, true} {
		s := serve(t, nil, nil)
		c := forwarder(t, forward(t, s), tunnel)
		var wait sync.WaitGroup
		for i := range 20 {
			data, fault := connect(t, c, strconv.Itoa(i), "80")
			wait.Go(func() {
				sent := bytes.Repeat([]byte{byte(i)}, 200<<10)
				go func() {
					data.Write(sent)
					data.Close() // half-closed: the echo goes on
				}()
				got, err := io.ReadAll(data)
				if err != nil || !bytes.Equal(got, sent) {
					t.Errorf("tunnel %v, connection %d: %d bytes, %v", tunnel, i, len(got), err)
				}
				if b, _ := io.ReadAll(fault); len(b) > 0 {
					t.Errorf("tunnel %v, connection %d: %s", tunnel, i, b)
				}
			})
		}
		wait.Wait()
	}
}

func TestForwardWithoutRequestIDs(t *testing.T) {
	s := serve(t, nil, nil)
	c := forwarder(t, forward(t, s), false)
	for range 3 {
		data, _ := connect(t, c, "", "80")
		data.Write([]byte("x"))
		data.Close()
		if b, err := io.ReadAll(data); string(b) != "x" {
			t.Errorf("%q, %v", b, err)
		}
	}
}

func TestForwardTellsWhatIsWrongAndGoesOn(t *testing.T) {
	var port uint16
	s := serve(t, &fake.Streams{OnPortForward: func(ctx context.Context, sandbox string, p uint16, conn io.ReadWriteCloser) error {
		if port = p; p == 1 {
			return errors.New("nobody listens there")
		}
		return (&fake.Streams{}).PortForward(ctx, sandbox, p, conn)
	}}, nil)
	c := forwarder(t, forward(t, s), false)
	_, fault := connect(t, c, "a", "1")
	if b, _ := io.ReadAll(fault); !strings.Contains(string(b), "nobody listens there") || port != 1 {
		t.Errorf("%q", b)
	}
	data, _ := connect(t, c, "b", "65535")
	data.Write([]byte("x"))
	data.Close()
	if b, _ := io.ReadAll(data); string(b) != "x" || port != 65535 {
		t.Errorf("%q from %d", b, port)
	}
}

func TestForwardRefusesBadStreams(t *testing.T) {
	s := serve(t, nil, func(o *Options) { o.SetupTimeout = time.Second })
	c := forwarder(t, forward(t, s, 80), false)
	refused := func(headers ...string) {
		t.Helper()
		h := http.Header{}
		for i := 0; i < len(headers); i += 2 {
			h.Set(headers[i], headers[i+1])
		}
		st, err := c.CreateStream(h)
		if err == nil {
			_, err = st.Read(make([]byte, 1))
		}
		if err == nil {
			t.Errorf("%q was taken", headers)
		}
	}
	refused("streamType", "data")
	refused("streamType", "data", "port", "0")
	refused("streamType", "data", "port", "65536")
	refused("streamType", "data", "port", "81") // which the call did not name
	refused("streamType", "x", "port", "80")
	refused("port", "80")
	refused("streamType", "data", "port", "80", "requestID", "alone") // its other half never comes
	connect(t, c, "twice", "80")
	refused("streamType", "data", "port", "80", "requestID", "x\x00y")
}

func TestForwardConnectionsAreLimited(t *testing.T) {
	ended := make(chan error, 2*maxForwarded)
	l := until(ended)
	s := serve(t, l, nil)
	c := forwarder(t, forward(t, s), false)
	for i := range maxForwarded {
		connect(t, c, strconv.Itoa(i), "80")
	}
	h := http.Header{}
	h.Set("port", "80")
	h.Set("streamType", "error")
	h.Set("requestID", "more")
	if st, err := c.CreateStream(h); err == nil {
		if _, err := st.Read(make([]byte, 1)); err == nil {
			t.Error("one connection too many was taken")
		}
	}
	l.awaitBegun(t, maxForwarded)
	before := runtime.NumGoroutine()
	c.Close()
	for range maxForwarded {
		awaitEnd(t, ended, nil)
	}
	settled(t, before, 1<<20)
}

func TestForwardEndsWithTheClient(t *testing.T) {
	for _, tunnel := range []bool{false, true} {
		ended := make(chan error, 1)
		l := until(ended)
		s := serve(t, l, nil)
		c := forwarder(t, forward(t, s), tunnel)
		connect(t, c, "1", "80")
		l.awaitBegun(t, 1)
		c.Close()
		awaitEnd(t, ended, nil)
	}
}

func TestForwardOverWebSocketChannels(t *testing.T) {
	s := serve(t, nil, nil)
	ws := dialWebSocket(t, forward(t, s, 80, 8080), "v4.channel.k8s.io")
	send(t, ws, 2, "hello") // the second port's data
	got := map[byte]string{}
	for got[2] != "\x90\x1fhello" {
		var b []byte
		if err := websocket.Message.Receive(ws, &b); err != nil {
			t.Fatalf("%v after %q", err, got)
		}
		got[b[0]] += string(b[1:])
	}
	if got[0] != "\x50\x00" || got[1] != "\x50\x00" || got[3] != "\x90\x1f" {
		t.Errorf("the channels begin with %q", got)
	}
	ended := make(chan error, 2)
	l := until(ended)
	s = serve(t, l, nil)
	ws = dialWebSocket(t, forward(t, s, 80, 81), "v4.channel.k8s.io")
	l.awaitBegun(t, 2)
	ws.Close()
	awaitEnd(t, ended, nil)
	awaitEnd(t, ended, nil)
	if got := raw(t, s, request(forward(t, s), "", "Connection: Upgrade", "Upgrade: websocket")); !strings.HasPrefix(got, "HTTP/1.1 400") {
		t.Errorf("without ports: %q", got)
	}
}

func TestTunnelOfAnotherProtocol(t *testing.T) {
	s := serve(t, nil, nil)
	u := must[*url.URL](t)(url.Parse(forward(t, s)))
	got := raw(t, s, "GET"+strings.TrimPrefix(request(u.String(), "", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: SPDY/3.1+other.k8s.io"), "POST"))
	if !strings.HasPrefix(got, "HTTP/1.1 403") {
		t.Errorf("%q", got)
	}
}
