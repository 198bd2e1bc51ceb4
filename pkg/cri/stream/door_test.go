package stream

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/cri/fake"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func TestDoorRefusesWhatIsNotATicket(t *testing.T) {
	s := serve(t, nil, nil)
	address := must[string](t)(s.Exec(ExecTarget{ContainerID: id, Command: []string{"x"}, Wanted: Wanted{Stdout: true}}))
	u := must[*url.URL](t)(url.Parse(address))
	upgrade := []string{"Connection: Upgrade", "Upgrade: SPDY/3.1"}
	for name, c := range map[string]struct{ text, want string }{
		"another method":      {"PUT" + strings.TrimPrefix(request(address, ""), "POST"), "405"},
		"no such path":        {request("http://"+s.host+"/", ""), "404"},
		"no verb of ours":     {request("http://"+s.host+"/run/"+strings.Repeat("A", 43), ""), "404"},
		"no such token":       {request("http://"+s.host+"/exec/"+strings.Repeat("A", 43), ""), "404"},
		"a long token":        {request("http://"+s.host+"/exec/"+strings.Repeat("A", 4000), ""), "404"},
		"more after it":       {request(address+"/x", ""), "404"},
		"an escaped path":     {request("http://"+s.host+"/%65xec%2f"+strings.Repeat("A", 43), ""), "404"},
		"a foreign host":      {request(address, "evil.example"), "403"},
		"a foreign port":      {request(address, "127.0.0.1:1"), "403"},
		"no host":             {strings.Replace(request(address, ""), "Host: "+u.Host, "X: y", 1), "400"},
		"a foreign origin":    {request(address, "", append(upgrade, "Origin: http://evil.example")...), "403"},
		"an opaque origin":    {request(address, "", append(upgrade, "Origin: null")...), "403"},
		"a secure origin":     {request(address, "", append(upgrade, "Origin: https://"+u.Host)...), "403"},
		"a second origin":     {request(address, "", append(upgrade, "Origin: http://"+u.Host, "Origin: http://evil.example")...), "403"},
		"forwarded, a GET":    {request(address, "evil.example", "X-Forwarded-For: 10.0.0.1"), "403"},
		"huge headers":        {request(address, "", "X-Big: "+strings.Repeat("a", 64<<10)), "431"},
		"many headers":        {request(address, "", strings.Repeat("X-Many: a\r\n", 8<<10)+"X: y"), "431"},
		"not HTTP":            {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", "400"},
		"HTTP/2 by knowledge": {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "40"},
	} {
		t.Run(name, func(t *testing.T) {
			if got, _, _ := strings.Cut(raw(t, s, c.text), "\r\n"); !strings.Contains(got, " "+c.want) {
				t.Errorf("%.80q was answered with %q, not %s", c.text, got, c.want)
			}
		})
	}
	// After all of that the ticket is as good as it was: nothing looked at it.
	if got := raw(t, s, request(address, "")); !strings.HasPrefix(got, "HTTP/1.1 400") {
		t.Errorf("the ticket without an upgrade: %.80q", got)
	}
	if got := raw(t, s, request(address, "")); !strings.HasPrefix(got, "HTTP/1.1 404") {
		t.Errorf("the ticket once more: %.80q", got)
	}
}

func TestDoorTakesWhatForwardersPassOn(t *testing.T) {
	s := serve(t, nil, nil)
	for name, headers := range map[string][]string{
		"our own origin": {"Origin: http://" + s.host}, "the kubelet's caller": {"X-Forwarded-For: 10.0.0.1", "Origin: https://dashboard.example"},
	} {
		host := ""
		if strings.Contains(name, "kubelet") {
			host = "node-7.example:10250"
		}
		address := must[string](t)(s.Exec(ExecTarget{ContainerID: id, Wanted: Wanted{Stdout: true}}))
		c := must[net.Conn](t)(net.Dial("tcp", s.host))
		c.SetDeadline(time.Now().Add(patience))
		io.WriteString(c, request(address, host, append(headers, "Connection: Upgrade", "Upgrade: SPDY/3.1", "X-Stream-Protocol-Version: v4.channel.k8s.io")...))
		line := make([]byte, 12)
		io.ReadFull(c, line)
		c.Close()
		if string(line) != "HTTP/1.1 101" {
			t.Errorf("%s: %q", name, line)
		}
	}
}

func TestTicketOfAnotherVerb(t *testing.T) {
	ran := false
	s := serve(t, &fake.Streams{OnExec: func(context.Context, spec.StreamRequest) (int32, error) { ran = true; return 0, nil }}, nil)
	address := must[string](t)(s.Exec(ExecTarget{ContainerID: id, Wanted: Wanted{Stdout: true}}))
	if got := raw(t, s, request(strings.Replace(address, "/exec/", "/attach/", 1), "")); !strings.HasPrefix(got, "HTTP/1.1 404") {
		t.Errorf("exec's ticket at attach: %.60q", got)
	}
	if _, err := dialSPDY(t, address, nil, "v4.channel.k8s.io"); err == nil || ran {
		t.Error("the ticket was good after it had been shown elsewhere")
	}
}

func TestExpiredTicket(t *testing.T) {
	c := &clock{}
	s := serve(t, nil, func(o *Options) { o.Now = c.now })
	address := must[string](t)(s.Exec(ExecTarget{ContainerID: id, Wanted: Wanted{Stdout: true}}))
	c.add(TicketTime)
	if _, err := dialSPDY(t, address, nil, "v4.channel.k8s.io"); err == nil {
		t.Error("a ticket was good after a minute")
	}
}

func TestSlowHeadersEnd(t *testing.T) {
	s := serve(t, nil, func(o *Options) { o.SetupTimeout = 200 * time.Millisecond })
	c := must[net.Conn](t)(net.Dial("tcp", s.host))
	defer c.Close()
	go func() {
		for range 600 {
			if _, err := io.WriteString(c, "X"); err != nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}()
	c.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadAll(c); err != nil && strings.Contains(err.Error(), "timeout") {
		t.Errorf("a client that sends its headers byte by byte was heard for %v", patience)
	}
}

func TestConnectionsAreLimited(t *testing.T) {
	l := newLimited(must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0")), 1)
	defer l.Close()
	accepted := make(chan net.Conn, 4)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	dial := func() net.Conn { return must[net.Conn](t)(net.Dial("tcp", l.Addr().String())) }
	first := dial()
	defer first.Close()
	held := <-accepted
	second := dial()
	defer second.Close()
	second.SetDeadline(time.Now().Add(patience))
	if _, err := second.Read(make([]byte, 1)); err == nil {
		t.Error("one connection too many was served")
	}
	held.Close()
	held.Close() // frees one place, not two
	third := dial()
	defer third.Close()
	(<-accepted).Close()
}

func TestAddressesThatAreRefused(t *testing.T) {
	for address, certs := range map[string]bool{
		"0.0.0.0:1": true, "[::]:1": true, "192.0.2.1:0": false, "[fe80::1%eth0]:0": true, "[2001:db8::1]:0": false,
	} {
		if err := Check(netip.MustParseAddrPort(address), certs); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", address, err)
		}
	}
	for address, certs := range map[string]bool{"127.0.0.1:0": false, "[::1]:9": false, "192.0.2.1:0": true} {
		if err := Check(netip.MustParseAddrPort(address), certs); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
	if err := Check(netip.AddrPort{}, true); !errdefs.IsInvalidArgument(err) {
		t.Errorf("none: %v", err)
	}
	taken := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	defer taken.Close()
	_, err := Listen(Options{Address: netip.MustParseAddrPort(taken.Addr().String())}, &fake.Streams{})
	if !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), taken.Addr().String()) {
		t.Errorf("an address that is taken: %v", err)
	}
}

func TestNoTicketsAfterClose(t *testing.T) {
	s := serve(t, nil, nil)
	s.Close(t.Context())
	for _, f := range []func() (string, error){
		func() (string, error) { return s.Exec(ExecTarget{}) }, func() (string, error) { return s.Attach(AttachTarget{}) },
		func() (string, error) { return s.PortForward(PortForwardTarget{}) },
	} {
		if _, err := f(); !errdefs.IsUnavailable(err) {
			t.Errorf("after Close: %v", err)
		}
	}
}

func TestCloseOfAServerThatNeverServed(t *testing.T) {
	s := must[*Server](t)(Listen(Options{Address: netip.MustParseAddrPort("127.0.0.1:0")}, &fake.Streams{}))
	s.Close(t.Context())
	if _, err := net.Dial("tcp", s.host); err == nil {
		t.Error("it listens on")
	}
}

func TestLocalhostIsOurs(t *testing.T) {
	for _, c := range []struct {
		got, host string
		want      bool
	}{
		{"localhost:80", "127.0.0.1:80", true}, {"LOCALHOST:80", "[::1]:80", true}, {"localhost:81", "127.0.0.1:80", false},
		{"localhost", "127.0.0.1:80", false}, {"localhost:80", "192.0.2.1:80", false}, {"localhost.evil.example:80", "127.0.0.1:80", false},
	} {
		if got := localName(c.got, c.host); got != c.want {
			t.Errorf("%s at %s: %v", c.got, c.host, got)
		}
	}
}

func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"/exec/AAAA", "/attach/", "//", "", "/exec/a/b", "/portforward/%2f", "/exec/\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		u, err := url.ParseRequestURI(path)
		if err != nil {
			return
		}
		verb, token, ok := parsePath(u)
		if ok && (u.Path != "/"+verb+"/"+token || token == "" || len(token) > maxToken) {
			t.Errorf("%q is %q and %q", path, verb, token)
		}
	})
}

func FuzzStranger(f *testing.F) {
	f.Add("127.0.0.1:80", "http://127.0.0.1:80", "", "websocket")
	f.Add("evil", "null", "1.2.3.4", "")
	f.Fuzz(func(t *testing.T, host, origin, forwarded, upgrade string) {
		r := &http.Request{Host: host, Header: http.Header{}}
		for k, v := range map[string]string{"Origin": origin, "X-Forwarded-For": forwarded, "Upgrade": upgrade} {
			if v != "" {
				r.Header.Set(k, v)
			}
		}
		ours := strings.EqualFold(host, "127.0.0.1:80") || strings.EqualFold(host, "localhost:80")
		passed := forwarded != "" && upgrade != ""
		if stranger(r, "127.0.0.1:80", false) == "" && !ours && !passed {
			t.Errorf("host %q was taken", host)
		}
	})
}

func TestTLSWithClientCertificates(t *testing.T) {
	ca := newAuthority(t)
	own, client, foreign := ca.issue(t, "127.0.0.1"), ca.issue(t, "client"), newAuthority(t).issue(t, "client")
	s := serve(t, nil, func(o *Options) {
		o.TLS = &tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool}
	})
	try := func(certs ...tls.Certificate) (*session, error) {
		address := must[string](t)(s.Exec(ExecTarget{ContainerID: id, Wanted: Wanted{Stdin: true, Stdout: true}}))
		if !strings.HasPrefix(address, "https://") {
			t.Errorf("address %s", address)
		}
		c, err := dialSPDY(t, address, &tls.Config{RootCAs: ca.pool, Certificates: certs, ServerName: "127.0.0.1"}, "v4.channel.k8s.io")
		if err != nil {
			return nil, err
		}
		return newSession(t, c, "stdin", "stdout"), nil
	}
	if _, err := try(); err == nil {
		t.Error("a client without a certificate was served")
	}
	if _, err := try(foreign); err == nil {
		t.Error("a client with a foreign certificate was served")
	}
	got, err := try(client)
	if err != nil {
		t.Fatal(err)
	}
	got.write("stdin", "secret")
	got.streams["stdin"].Close()
	if out := got.read("stdout"); out != "secret" {
		t.Errorf("%q came back", out)
	}
	if st := got.status(); st.Status != "Success" {
		t.Errorf("%+v", st)
	}
}
