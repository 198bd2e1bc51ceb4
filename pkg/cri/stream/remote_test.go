package stream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/moby/spdystream/spdy"
	"golang.org/x/net/websocket"

	"github.com/runtimed/runtimed/pkg/cri/fake"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

var all = Wanted{Stdin: true, Stdout: true, Stderr: true}

func exec(t *testing.T, s *Server, w Wanted) string {
	t.Helper()
	return must[string](t)(s.Exec(ExecTarget{ContainerID: id, Command: []string{"a", "b"}, Wanted: w}))
}

// shout writes what it reads in capitals to stdout, and says on stderr what it was asked for.
func shout(_ context.Context, r spec.StreamRequest) (int32, error) {
	if r.Streams.Stderr != nil {
		io.WriteString(r.Streams.Stderr, r.ContainerID+" "+strings.Join(r.Command, " "))
	}
	b, err := io.ReadAll(r.Streams.Stdin)
	if err != nil {
		return 0, err
	}
	_, err = r.Streams.Stdout.Write(bytes.ToUpper(b))
	return int32(len(b)), err
}

func TestExecOverSPDY(t *testing.T) {
	s := serve(t, &fake.Streams{OnExec: shout}, nil)
	c := openSession(t, exec(t, s, all), "stdin", "stdout", "stderr")
	c.write("stdin", "hel")
	c.write("stdin", "lo")
	c.streams["stdin"].Close() // half-closed: the rest goes on
	if out, errs := c.read("stdout"), c.read("stderr"); out != "HELLO" || errs != id+" a b" {
		t.Errorf("stdout %q, stderr %q", out, errs)
	}
	got := c.status()
	if got.Status != "Failure" || got.Reason != "NonZeroExitCode" || got.Details.Causes[0] != (statusCause{"ExitCode", "5"}) {
		t.Errorf("outcome %+v", got)
	}
}

func TestExecOverWebSocket(t *testing.T) {
	for _, protocol := range []string{"v5.channel.k8s.io", "v4.channel.k8s.io"} {
		s := serve(t, &fake.Streams{OnExec: func(ctx context.Context, r spec.StreamRequest) (int32, error) {
			if protocol == "v4.channel.k8s.io" { // which cannot end its input
				r.Streams.Stdin = io.LimitReader(r.Streams.Stdin, 5)
			}
			return shout(ctx, r)
		}}, nil)
		ws := dialWebSocket(t, exec(t, s, all), protocol)
		send(t, ws, 0, "hello")
		if protocol == "v5.channel.k8s.io" {
			send(t, ws, 255, "\x00")
		}
		got := collect(ws)
		if got[1] != "HELLO" || got[2] != id+" a b" {
			t.Errorf("%s: %q", protocol, got)
		}
		if st := parseStatus(t, []byte(got[3])); st.Details.Causes[0].Message != "5" {
			t.Errorf("%s: outcome %+v", protocol, st)
		}
	}
}

func TestOutcomes(t *testing.T) {
	for name, c := range map[string]struct {
		code int32
		err  error
		want remoteStatus
	}{
		"good": {0, nil, remoteStatus{Status: "Success"}},
		"an error": {0, errors.New("it is not there"),
			remoteStatus{Status: "Failure", Reason: "InternalError", Code: 500, Message: "it is not there"}},
	} {
		s := serve(t, &fake.Streams{OnExec: func(context.Context, spec.StreamRequest) (int32, error) { return c.code, c.err }}, nil)
		if got := openSession(t, exec(t, s, Wanted{Stdout: true}), "stdout").status(); got != c.want {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestTerminalAndItsSizes(t *testing.T) {
	for _, kind := range []string{"SPDY", "WebSocket"} {
		sizes := make(chan spec.TerminalSize)
		s := serve(t, &fake.Streams{OnExec: func(ctx context.Context, r spec.StreamRequest) (int32, error) {
			if !r.Streams.TTY || r.Streams.Stderr != nil {
				return 0, errors.New("no terminal")
			}
			for size := range r.Streams.Resize {
				select {
				case sizes <- size:
				case <-ctx.Done():
					return 0, ctx.Err()
				}
			}
			return 0, nil
		}}, nil)
		address := exec(t, s, Wanted{Stdout: true, TTY: true})
		var resize func(string)
		var end func()
		if kind == "SPDY" {
			c := openSession(t, address, "stdout", "resize")
			resize, end = func(text string) { c.write("resize", text) }, func() {
				c.streams["resize"].Close()
				if st := c.status(); st.Status != "Success" {
					t.Errorf("%s: %+v", kind, st)
				}
			}
		} else {
			ws := dialWebSocket(t, address, "v5.channel.k8s.io")
			resize, end = func(text string) { send(t, ws, 4, text) }, func() {
				send(t, ws, 255, "\x04")
				if got := collect(ws); !strings.Contains(got[3], "Success") {
					t.Errorf("%s: %q", kind, got)
				}
			}
		}
		for _, want := range []spec.TerminalSize{{Width: 80, Height: 24}, {Width: 65535, Height: 1}} {
			b := `{"Width":` + itoa(want.Width) + `,"Height":` + itoa(want.Height) + "}\n"
			resize(`{"Width":0,"Height":5}`) // no size
			resize(b)
			select {
			case got := <-sizes:
				if got != want {
					t.Errorf("%s: %v, not %v", kind, got, want)
				}
			case <-time.After(patience):
				t.Fatalf("%s: no size", kind)
			}
		}
		end()
	}
}

func itoa(n uint16) string { return strings.TrimSpace(string(appendInt(nil, n))) }

func appendInt(b []byte, n uint16) []byte {
	if n >= 10 {
		b = appendInt(b, n/10)
	}
	return append(b, byte('0'+n%10))
}

func TestAttachHasTheContainersTerminal(t *testing.T) {
	for _, c := range []struct {
		want Wanted
		tty  bool
		open []string
	}{
		{Wanted{Stdin: true, Stdout: true, TTY: true}, true, []string{"stdin", "stdout", "resize"}},
		{all, true, []string{"stdin", "stdout", "stderr"}},
		{all, false, []string{"stdin", "stdout", "stderr"}},
		{Wanted{Stdin: true, Stdout: true, TTY: true}, false, []string{"stdin", "stdout", "resize"}},
	} {
		s := serve(t, &fake.Streams{OnAttach: func(_ context.Context, got string, st spec.Streams) error {
			if got != id || st.TTY != c.tty || c.tty && st.Stderr != nil || !c.tty && st.Resize != nil {
				t.Errorf("%+v: %s %+v", c, got, st)
			}
			_, err := io.Copy(st.Stdout, st.Stdin)
			return err
		}}, nil)
		address := must[string](t)(s.Attach(AttachTarget{ContainerID: id, TTY: c.tty, Wanted: c.want}))
		client := openSession(t, address, c.open...)
		client.write("stdin", "x")
		client.streams["stdin"].Close()
		if got := client.read("stdout"); got != "x" {
			t.Errorf("%+v: %q", c, got)
		}
		if st := client.status(); st.Status != "Success" {
			t.Errorf("%+v: %+v", c, st)
		}
	}
}

// lasting are sessions that last until their context ends.
type lasting struct {
	*fake.Streams
	begun chan struct{}
}

func until(ended chan<- error) lasting {
	begun := make(chan struct{}, 4096)
	wait := func(ctx context.Context) error {
		begun <- struct{}{}
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return ctx.Err()
	}
	return lasting{begun: begun, Streams: &fake.Streams{
		OnExec:        func(ctx context.Context, _ spec.StreamRequest) (int32, error) { return 0, wait(ctx) },
		OnAttach:      func(ctx context.Context, _ string, _ spec.Streams) error { return wait(ctx) },
		OnPortForward: func(ctx context.Context, _ string, _ uint16, _ io.ReadWriteCloser) error { return wait(ctx) },
	}}
}

// awaitBegun waits for so many sessions: a client that goes before has none.
func (l lasting) awaitBegun(t *testing.T, sessions int) {
	t.Helper()
	for range sessions {
		select {
		case <-l.begun:
		case <-time.After(patience):
			t.Fatal("no session begins")
		}
	}
}

func awaitEnd(t *testing.T, ended <-chan error, want error) {
	t.Helper()
	select {
	case err := <-ended:
		if want != nil && !errors.Is(err, want) {
			t.Errorf("the session ended with %v, not %v", err, want)
		}
	case <-time.After(patience):
		t.Fatal("the session goes on")
	}
}

func TestClientThatGoesEndsTheSession(t *testing.T) {
	ended := make(chan error, 1)
	l := until(ended)
	s := serve(t, l, nil)
	c := openSession(t, exec(t, s, all), "stdin", "stdout", "stderr")
	l.awaitBegun(t, 1)
	c.conn.Close()
	awaitEnd(t, ended, nil)
	ws := dialWebSocket(t, exec(t, s, all), "v5.channel.k8s.io")
	l.awaitBegun(t, 1)
	ws.Close()
	awaitEnd(t, ended, nil)
}

// A program that does not take its input must not hide that the client is gone.
func TestClientThatGoesWhileNobodyReads(t *testing.T) {
	ended := make(chan error, 1)
	l := until(ended)
	s := serve(t, l, nil)
	ws := dialWebSocket(t, exec(t, s, all), "v5.channel.k8s.io")
	l.awaitBegun(t, 1)
	ws.SetDeadline(time.Now().Add(time.Second))
	for range 1000 {
		if websocket.Message.Send(ws, append([]byte{0}, make([]byte, 64<<10)...)) != nil {
			break // no more fits
		}
	}
	ws.Close()
	awaitEnd(t, ended, nil)
}

func TestIdleSessionEnds(t *testing.T) {
	ended := make(chan error, 1)
	s := serve(t, until(ended), func(o *Options) { o.IdleTimeout = time.Second })
	openSession(t, exec(t, s, all), "stdin", "stdout", "stderr")
	awaitEnd(t, ended, errIdle)
}

func TestCloseEndsSessions(t *testing.T) {
	ended := make(chan error, 1)
	l := until(ended)
	s := serve(t, l, nil)
	openSession(t, exec(t, s, all), "stdin", "stdout", "stderr")
	l.awaitBegun(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s.Close(ctx)
	awaitEnd(t, ended, nil)
	if ctx.Err() != nil {
		t.Error("Close waited in vain")
	}
}

// A client that never reads holds up its own session alone, and only until it has been idle for long enough.
func TestClientThatNeverReads(t *testing.T) {
	wrote := make(chan error, 1)
	s := serve(t, &fake.Streams{OnExec: func(_ context.Context, r spec.StreamRequest) (int32, error) {
		for {
			if _, err := r.Streams.Stdout.Write(make([]byte, 64<<10)); err != nil {
				wrote <- err
				return 0, err
			}
		}
	}}, func(o *Options) { o.IdleTimeout = time.Second })
	stuck := openSession(t, exec(t, s, Wanted{Stdout: true}), "stdout")
	_ = stuck // its client's library takes frames until its queue is full, and no more
	other := serve(t, nil, nil)
	c := openSession(t, exec(t, other, Wanted{Stdin: true, Stdout: true}), "stdin", "stdout")
	c.write("stdin", "x")
	c.streams["stdin"].Close()
	if c.read("stdout") != "x" {
		t.Error("another session was held up")
	}
	awaitEnd(t, wrote, nil)
}

// What was written last arrives, also when the client goes on sending what nobody will read.
func TestLastOutputArrivesBesideUnreadInput(t *testing.T) {
	const size = 4 << 20
	s := serve(t, &fake.Streams{OnExec: func(_ context.Context, r spec.StreamRequest) (int32, error) {
		_, err := r.Streams.Stdout.Write(bytes.Repeat([]byte("x"), size))
		return 3, err
	}}, nil)
	c := openSession(t, exec(t, s, Wanted{Stdin: true, Stdout: true}), "stdin", "stdout")
	go func() {
		for {
			if _, err := c.streams["stdin"].Write(make([]byte, 32<<10)); err != nil {
				return
			}
		}
	}()
	if n := len(c.read("stdout")); n != size {
		t.Errorf("%d bytes of %d", n, size)
	}
	if st := c.status(); st.Details == nil || st.Details.Causes[0].Message != "3" {
		t.Errorf("%+v", st)
	}
}

func TestStreamsThatWereNotAskedFor(t *testing.T) {
	s := serve(t, nil, nil)
	for name, types := range map[string][]string{"another": {"stderr"}, "one that is none": {"x"}, "none": {""}} {
		conn, err := dialSPDY(t, exec(t, s, Wanted{Stdin: true, Stdout: true}), nil, "v4.channel.k8s.io")
		if err != nil {
			t.Fatal(err)
		}
		h := http.Header{}
		h.Set("streamType", types[0])
		if st, err := conn.CreateStream(h); err == nil {
			if _, err := st.Read(make([]byte, 1)); err == nil {
				t.Errorf("%s was taken", name)
			}
		}
		conn.Close()
	}
}

func TestClientThatOpensNoStreams(t *testing.T) {
	for name, types := range map[string][]string{"none": nil, "not all": {"error", "stdin"}, "one twice": {"error", "stdin", "stdin"}} {
		s := serve(t, nil, func(o *Options) { o.SetupTimeout = 300 * time.Millisecond })
		conn, err := dialSPDY(t, exec(t, s, all), nil, "v4.channel.k8s.io")
		if err != nil {
			t.Fatal(err)
		}
		for _, kind := range types {
			h := http.Header{}
			h.Set("streamType", kind)
			if st, err := conn.CreateStream(h); err == nil {
				st.Write([]byte("early")) // which nobody will read
			}
		}
		select {
		case <-conn.CloseChan():
		case <-time.After(patience):
			t.Errorf("%s: the connection stays", name)
		}
		conn.Close()
	}
}

func TestOldProtocolsAreRefused(t *testing.T) {
	s := serve(t, nil, nil)
	if _, err := dialSPDY(t, exec(t, s, all), nil, "v1.channel.k8s.io"); err == nil || !strings.Contains(err.Error(), "negotiate") {
		t.Errorf("SPDY: %v", err)
	}
	got := raw(t, s, "GET"+strings.TrimPrefix(request(exec(t, s, all), "", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: channel.k8s.io"), "POST"))
	if !strings.HasPrefix(got, "HTTP/1.1 403") {
		t.Errorf("WebSocket: %q", got)
	}
}

func TestIPv6(t *testing.T) {
	s := serve(t, nil, func(o *Options) { o.Address = netip.MustParseAddrPort("[::1]:0") })
	address := exec(t, s, Wanted{Stdin: true, Stdout: true})
	if u := must[*url.URL](t)(url.Parse(address)); u.Hostname() != "::1" {
		t.Errorf("address %s", address)
	}
	c := openSession(t, address, "stdin", "stdout")
	c.write("stdin", "six")
	c.streams["stdin"].Close()
	if got := c.read("stdout"); got != "six" {
		t.Errorf("%q", got)
	}
}

// Clients that are gone at any moment leave nothing behind.
func TestAbortedSessionsLeaveNothing(t *testing.T) {
	s := serve(t, until(make(chan error, 4096)), nil)
	before, files := runtime.NumGoroutine(), descriptors(t)
	for i := range 1000 {
		var address string
		protocol, kinds := "v4.channel.k8s.io", []string{"error", "stdin", "stdout", "stderr", "stdin"}
		switch i % 3 {
		case 0:
			address = exec(t, s, all)
		case 1:
			address = must[string](t)(s.Attach(AttachTarget{ContainerID: id, Wanted: all}))
		case 2:
			address, protocol, kinds = forward(t, s), "portforward.k8s.io", []string{"error", "data", "data", "error", "data"}
		}
		abort(t, s, request(address, "", "Connection: Upgrade", "Upgrade: SPDY/3.1", "X-Stream-Protocol-Version: "+protocol), kinds, i)
	}
	settled(t, before, files)
}

// abort goes at a moment that i picks: in the headers, before or after any stream, in the middle of data.
func abort(t *testing.T, s *Server, text string, kinds []string, i int) {
	t.Helper()
	c := must[net.Conn](t)(net.Dial("tcp", s.host))
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if i%8 == 0 {
		io.WriteString(c, text[:len(text)*(i%7+1)/8])
		return
	}
	io.WriteString(c, text)
	if i%8 == 1 {
		return
	}
	r := bufio.NewReader(c)
	for line := ""; line != "\r\n"; {
		line = must[string](t)(r.ReadString('\n'))
	}
	f := must[*spdy.Framer](t)(spdy.NewFramer(c, r))
	for n := range i % 6 {
		h := http.Header{"Streamtype": {kinds[n]}, "Port": {"80"}}
		f.WriteFrame(&spdy.SynStreamFrame{StreamId: spdy.StreamId(2*n + 1), Headers: h})
		if i%5 == n {
			f.WriteFrame(&spdy.DataFrame{StreamId: spdy.StreamId(2*n + 1), Data: make([]byte, 100)})
		}
	}
	if i%4 == 0 && i%6 > 0 {
		f.ReadFrame() // the first answer
	}
	if i%9 == 0 {
		f.WriteFrame(&spdy.GoAwayFrame{})
	}
}

// FuzzSPDY sends anything in the place of SPDY, and then goes.
func FuzzSPDY(f *testing.F) {
	f.Add([]byte{0x80, 3, 0, 1, 0, 0, 0, 10, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}, false)
	f.Add([]byte{0, 0, 0, 1, 0, 0, 0, 1, 'x'}, true)
	f.Add([]byte{0x82, 0x85, 1, 2, 3, 4, 0, 0, 0, 0, 0}, true)
	s, err := Listen(Options{Address: netip.MustParseAddrPort("127.0.0.1:0")}, &fake.Streams{})
	if err != nil {
		f.Fatal(err)
	}
	go s.Serve()
	f.Cleanup(func() { s.Close(context.Background()) })
	f.Fuzz(func(t *testing.T, b []byte, web bool) {
		headers := []string{"Connection: Upgrade", "Upgrade: SPDY/3.1", "X-Stream-Protocol-Version: v4.channel.k8s.io"}
		if web {
			headers = []string{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
				"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: v5.channel.k8s.io"}
		}
		method := "POST"
		if web {
			method = "GET"
		}
		c := must[*net.TCPConn](t)(net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s.host))))
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		io.WriteString(c, method+strings.TrimPrefix(request(exec(t, s, Wanted{Stdin: true, Stdout: true, TTY: true}), "", headers...), "POST"))
		c.Write(b)
		c.CloseWrite()
		if _, err := io.Copy(io.Discard, c); err != nil && errors.Is(err, context.DeadlineExceeded) {
			t.Fatal("the server holds on to a client that is gone")
		}
	})
}

func FuzzSizes(f *testing.F) {
	for _, s := range []string{`{"Width":1,"Height":2}`, `{"Width":-1}`, `[[[[`, `{"Width":1e9}`, "{}{}{}", `"` + strings.Repeat("x", 4096)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for size := range sizes(t.Context(), strings.NewReader(text)) {
			if size.Width == 0 || size.Height == 0 {
				t.Errorf("%q gives %v", text, size)
			}
		}
	})
}
