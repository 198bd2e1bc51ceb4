package files

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

const (
	plain    = "# made by hand\nsearch lan corp.example\nnameserver 192.0.2.1\nnameserver 2001:db8::1\noptions ndots:2 edns0\n"
	stub     = "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n"
	upstream = "nameserver 192.0.2.53\nsearch lan\n"
	mixed    = "nameserver 127.0.0.1\nnameserver ::1\nnameserver fe80::1%eth0\nnameserver 192.0.2.9\n"
)

func TestResolvConf(t *testing.T) {
	for name, c := range map[string]struct {
		dns  *spec.DNS
		host bool
		node nodeDNS
		want string
	}{
		"the request's": {&spec.DNS{Servers: []string{"10.96.0.10"}, Searches: []string{"a.svc", "svc"}, Options: []string{"ndots:5"}},
			false, nodeDNS{Stub: plain}, "search a.svc svc\nnameserver 10.96.0.10\noptions ndots:5\n"},
		"the request's loopback, a server in the pod": {&spec.DNS{Servers: []string{"127.0.0.1"}}, false, nodeDNS{Stub: plain},
			"nameserver 127.0.0.1\n"},
		"the node's": {nil, false, nodeDNS{Stub: plain},
			"search lan corp.example\nnameserver 192.0.2.1\nnameserver 2001:db8::1\noptions ndots:2 edns0\n"},
		"an empty request": {&spec.DNS{}, false, nodeDNS{Stub: "nameserver 192.0.2.1\n"}, "nameserver 192.0.2.1\n"},
		"searches alone": {&spec.DNS{Searches: []string{"mine"}}, false, nodeDNS{Stub: plain},
			"search mine\nnameserver 192.0.2.1\nnameserver 2001:db8::1\noptions ndots:2 edns0\n"},
		"resolved's stub": {nil, false, nodeDNS{Stub: stub, Upstream: upstream}, "search lan\nnameserver 192.0.2.53\n"},
		"resolved's stub alone": {nil, false, nodeDNS{Stub: stub},
			"# The node's resolver 127.0.0.53 cannot be reached from the pod's network.\n" +
				"# No other server is known: give the pod a DNS configuration.\nsearch .\noptions edns0 trust-ad\n"},
		"upstream on loopback too": {nil, false, nodeDNS{Stub: "nameserver 127.0.0.53\n", Upstream: "nameserver ::1\n"},
			"# The node's resolver 127.0.0.53 cannot be reached from the pod's network.\n" +
				"# No other server is known: give the pod a DNS configuration.\n"},
		"some on loopback": {nil, false, nodeDNS{Stub: mixed, Upstream: upstream},
			"# The node's resolver 127.0.0.1, ::1, fe80::1%eth0 cannot be reached from the pod's network.\nnameserver 192.0.2.9\n"},
		"mapped loopback": {nil, false, nodeDNS{Stub: "nameserver ::ffff:127.0.0.1\nnameserver 192.0.2.9\n"},
			"# The node's resolver ::ffff:127.0.0.1 cannot be reached from the pod's network.\nnameserver 192.0.2.9\n"},
		"no file":                   {nil, false, nodeDNS{}, ""},
		"host network":              {nil, true, nodeDNS{Stub: stub, Upstream: upstream}, stub},
		"host network with request": {&spec.DNS{Servers: []string{"192.0.2.7"}}, true, nodeDNS{Stub: stub}, "nameserver 192.0.2.7\n"},
		"host network with searches": {&spec.DNS{Searches: []string{"x"}}, true, nodeDNS{Stub: stub},
			"search x\nnameserver 127.0.0.53\noptions edns0 trust-ad\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := resolvConf(spec.FilesRequest{DNS: c.dns, HostNetwork: c.host}, c.node); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func TestParse(t *testing.T) {
	d := parse("; old\ndomain first.example second\nsearch a b # not c\nnameserver\nnameserver resolver.example\n" +
		"nameserver 192.0.2.1 192.0.2.2\n\tnameserver\t2001:db8::1 ;x\noptions ndots:1\noptions rotate\nsortlist 1.2.3.4\n\n")
	if strings.Join(d.Servers, " ") != "192.0.2.1 2001:db8::1" || strings.Join(d.Searches, " ") != "a b" ||
		strings.Join(d.Options, " ") != "ndots:1 rotate" {
		t.Errorf("%+v", d)
	}
	if d := parse("search a\ndomain b\n"); strings.Join(d.Searches, " ") != "b" {
		t.Errorf("the last does not win: %+v", d)
	}
}

// FuzzResolvConf: whatever the node's file holds, what is written is lines that the resolver knows.
func FuzzResolvConf(f *testing.F) {
	for _, s := range []string{plain, stub, mixed, "nameserver \x00\nsearch \x1b[31m", "domain", "#"} {
		f.Add(s, upstream)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		for line := range strings.Lines(resolvConf(spec.FilesRequest{}, nodeDNS{a, b})) {
			word, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
			switch word {
			case "#", "search", "options":
			case "nameserver":
				if ip, err := netip.ParseAddr(rest); err != nil || ip.IsLoopback() {
					t.Errorf("server %q", rest)
				}
			default:
				t.Errorf("line %q", line)
			}
		}
	})
}

func TestHosts(t *testing.T) {
	r := spec.FilesRequest{Hostname: "web.example", Addresses: []spec.Address{{IP: "10.1.2.3"}, {IP: "2001:db8::3"}}}
	if got, want := hosts(r), localhost+"10.1.2.3\tweb.example web\n2001:db8::3\tweb.example web\n"; got != want {
		t.Errorf("got\n%s", got)
	}
	if got := hosts(spec.FilesRequest{Addresses: r.Addresses}); got != localhost {
		t.Errorf("without a name: %s", got)
	}
	if got := hosts(spec.FilesRequest{Hostname: "web"}); got != localhost {
		t.Errorf("without an address: %s", got)
	}
}

func TestCheck(t *testing.T) {
	dns := func(d spec.DNS) spec.FilesRequest { return spec.FilesRequest{SandboxID: "a", DNS: &d} }
	for name, c := range map[string]struct {
		r  spec.FilesRequest
		ok bool
	}{
		"nothing":           {spec.FilesRequest{SandboxID: "a"}, true},
		"everything":        {dns(spec.DNS{Servers: []string{"1.1.1.1", "::1", "fe80::1%eth0"}, Searches: []string{"a.b", "."}, Options: []string{"ndots:5"}}), true},
		"no id":             {spec.FilesRequest{}, false},
		"id ..":             {spec.FilesRequest{SandboxID: ".."}, false},
		"id with a slash":   {spec.FilesRequest{SandboxID: "a/b"}, false},
		"id with a NUL":     {spec.FilesRequest{SandboxID: "a\x00"}, false},
		"host name line":    {spec.FilesRequest{SandboxID: "a", Hostname: "a\n1.2.3.4 evil"}, false},
		"host name tab":     {spec.FilesRequest{SandboxID: "a", Hostname: "a\tb"}, false},
		"host name long":    {spec.FilesRequest{SandboxID: "a", Hostname: strings.Repeat("a", 65)}, false},
		"address":           {spec.FilesRequest{SandboxID: "a", Addresses: []spec.Address{{IP: "1.2.3.4\nx"}}}, false},
		"server line":       {dns(spec.DNS{Servers: []string{"1.1.1.1\nsearch evil"}}), false},
		"server name":       {dns(spec.DNS{Servers: []string{"dns.example"}}), false},
		"server empty":      {dns(spec.DNS{Servers: []string{""}}), false},
		"search line":       {dns(spec.DNS{Searches: []string{"a\nnameserver 6.6.6.6"}}), false},
		"search return":     {dns(spec.DNS{Searches: []string{"a\rb"}}), false},
		"search space":      {dns(spec.DNS{Searches: []string{"a b"}}), false},
		"option line":       {dns(spec.DNS{Options: []string{"ndots:1\n"}}), false},
		"option empty":      {dns(spec.DNS{Options: []string{""}}), false},
		"option NUL":        {dns(spec.DNS{Options: []string{"a\x00"}}), false},
		"too much together": {dns(spec.DNS{Searches: []string{strings.Repeat("a", 40000), strings.Repeat("b", 40000)}}), false},
	} {
		err := Check(c.r)
		if (err == nil) != c.ok || err != nil && !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v, want ok=%v", name, err, c.ok)
		}
	}
}
