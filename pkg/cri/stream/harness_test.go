package stream

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/net/websocket"
	"k8s.io/klog/v2"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"

	"github.com/runtimed/runtimed/pkg/cri/fake"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

const id = "c0ffee"

func TestMain(m *testing.M) {
	klog.SetLogger(logr.Discard())
	os.Exit(m.Run())
}

func serve(t *testing.T, r Runtime, change func(*Options)) *Server {
	t.Helper()
	o := Options{Address: netip.MustParseAddrPort("127.0.0.1:0"), Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&o)
	}
	if r == nil {
		r = &fake.Streams{}
	}
	s, err := Listen(o, r)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		s.Close(ctx)
		if ctx.Err() != nil {
			t.Error("sessions are left after Close")
		}
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return s
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// session is a client of one session.
type session struct {
	t       *testing.T
	conn    httpstream.Connection
	streams map[string]httpstream.Stream
}

// dialSPDY upgrades and opens no stream yet.
func dialSPDY(t *testing.T, address string, secure *tls.Config, protocol string) (httpstream.Connection, error) {
	t.Helper()
	rt := must[*spdy.SpdyRoundTripper](t)(spdy.NewRoundTripper(secure))
	req := must[*http.Request](t)(http.NewRequest(http.MethodPost, address, nil))
	req.Header.Set(httpstream.HeaderProtocolVersion, protocol)
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	return rt.NewConnection(resp)
}

func openSession(t *testing.T, address string, types ...string) *session {
	t.Helper()
	c, err := dialSPDY(t, address, nil, "v4.channel.k8s.io")
	if err != nil {
		t.Fatal(err)
	}
	return newSession(t, c, types...)
}

func newSession(t *testing.T, c httpstream.Connection, types ...string) *session {
	t.Helper()
	t.Cleanup(func() { c.Close() })
	s := &session{t: t, conn: c, streams: map[string]httpstream.Stream{}}
	for _, kind := range append([]string{"error"}, types...) {
		s.open(kind)
	}
	return s
}

func (s *session) open(kind string) {
	s.t.Helper()
	h := http.Header{}
	h.Set("streamType", kind)
	st, err := s.conn.CreateStream(h)
	if err != nil {
		s.t.Fatalf("stream %s: %v", kind, err)
	}
	s.streams[kind] = st
}

func (s *session) read(kind string) string {
	s.t.Helper()
	b, err := io.ReadAll(s.streams[kind])
	if err != nil {
		s.t.Fatalf("%s: %v", kind, err)
	}
	return string(b)
}

// status reads the outcome.
func (s *session) status() remoteStatus {
	s.t.Helper()
	return parseStatus(s.t, []byte(s.read("error")))
}

func parseStatus(t *testing.T, b []byte) (out remoteStatus) {
	t.Helper()
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatalf("status %q: %v", b, err)
	}
	return out
}

func (s *session) write(kind, text string) {
	s.t.Helper()
	if _, err := s.streams[kind].Write([]byte(text)); err != nil {
		s.t.Fatal(err)
	}
}

// dialWebSocket is a client by number of channel.
func dialWebSocket(t *testing.T, address, protocol string) *websocket.Conn {
	t.Helper()
	u := must[*url.URL](t)(url.Parse(address))
	origin := "http://" + u.Host
	u.Scheme = "ws"
	c := must[*websocket.Config](t)(websocket.NewConfig(u.String(), origin))
	c.Protocol = []string{protocol}
	ws, err := c.DialContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ws.PayloadType = websocket.BinaryFrame
	ws.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { ws.Close() })
	return ws
}

func send(t *testing.T, ws *websocket.Conn, channel byte, data string) {
	t.Helper()
	if err := websocket.Message.Send(ws, append([]byte{channel}, data...)); err != nil {
		t.Fatal(err)
	}
}

// collect reads all messages to the end, by channel.
func collect(ws *websocket.Conn) map[byte]string {
	all := map[byte]string{}
	for {
		var b []byte
		if websocket.Message.Receive(ws, &b) != nil {
			return all
		}
		if len(b) > 0 {
			all[b[0]] += string(b[1:])
		}
	}
}

// raw sends text to the server and returns what it answers with.
func raw(t *testing.T, s *Server, text string) string {
	t.Helper()
	c := must[net.Conn](t)(net.Dial("tcp", s.host))
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	io.WriteString(c, text)
	b, _ := io.ReadAll(c)
	return string(b)
}

func request(address, host string, headers ...string) string {
	u, err := url.Parse(address)
	if err != nil {
		panic(err)
	}
	if host == "" {
		host = u.Host
	}
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", u.RequestURI(), host, strings.Join(append(headers, ""), "\r\n"))
}

// settled waits until as many goroutines and descriptors are there as before.
func settled(t *testing.T, goroutines, files int) {
	t.Helper()
	end := time.Now().Add(patience)
	for {
		g, f := runtime.NumGoroutine(), descriptors(t)
		if g <= goroutines && f <= files {
			return
		}
		if time.Now().After(end) {
			var b bytes.Buffer
			stacks := make([]byte, 1<<20)
			b.Write(stacks[:runtime.Stack(stacks, true)])
			t.Fatalf("%d goroutines and %d descriptors, %d and %d before\n%s", g, f, goroutines, files, b.String())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	return len(must[[]os.DirEntry](t)(os.ReadDir("/proc/self/fd")))
}
