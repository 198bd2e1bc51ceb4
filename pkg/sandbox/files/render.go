package files

import (
	"net/netip"
	"strings"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

const localhost = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n" +
	"ff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"

// hosts is a pod's own /etc/hosts (hosts(5)): localhost, and the host name at each of the pod's addresses.
func hosts(r spec.FilesRequest) string {
	var b strings.Builder
	b.WriteString(localhost)
	for _, a := range r.Addresses {
		if r.Hostname == "" {
			continue
		}
		b.WriteString(a.IP + "\t" + r.Hostname)
		if short, _, ok := strings.Cut(r.Hostname, "."); ok && short != "" {
			b.WriteString(" " + short)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// nodeDNS is what the node's resolver files say. Stub is /etc/resolv.conf, Upstream the one that systemd-resolved
// keeps for those who cannot use its stub on loopback; either may be "".
type nodeDNS struct{ Stub, Upstream string }

// resolvConf renders resolv.conf(5). What the request gives is written as it is; what it leaves out is the node's. A pod
// with the node's network gets the node's file unchanged where the request has no DNS. In a network of its own the
// node's loopback, and an address that names an interface of the node, reach nothing: such servers are left out, which a
// comment says.
func resolvConf(r spec.FilesRequest, n nodeDNS) string {
	d := r.DNS
	if d == nil {
		d = &spec.DNS{}
	}
	if r.HostNetwork && len(d.Servers)+len(d.Searches)+len(d.Options) == 0 {
		return n.Stub
	}
	node, comments := parse(n.Stub), ""
	if !r.HostNetwork && len(d.Servers) == 0 {
		node, comments = reachable(node, parse(n.Upstream))
	}
	servers, searches, options := d.Servers, d.Searches, d.Options
	if len(servers) == 0 {
		servers = node.Servers
		if len(searches) == 0 {
			searches = node.Searches
		}
		if len(options) == 0 {
			options = node.Options
		}
	}
	var b strings.Builder
	b.WriteString(comments)
	if len(searches) > 0 {
		b.WriteString("search " + strings.Join(searches, " ") + "\n")
	}
	for _, s := range servers {
		b.WriteString("nameserver " + s + "\n")
	}
	if len(options) > 0 {
		b.WriteString("options " + strings.Join(options, " ") + "\n")
	}
	return b.String()
}

// reachable picks the servers that a network of the pod's own can reach: those of the stub file, or of the upstream one
// where the stub has none of them.
func reachable(stub, upstream spec.DNS) (spec.DNS, string) {
	out := stub
	var lost []string
	out.Servers, lost = beyondLoopback(stub.Servers)
	if len(out.Servers) > 0 || len(lost) == 0 {
		return out, comment(lost)
	}
	if servers, _ := beyondLoopback(upstream.Servers); len(servers) > 0 {
		upstream.Servers = servers
		return upstream, ""
	}
	return out, comment(lost) + "# No other server is known: give the pod a DNS configuration.\n"
}

func comment(lost []string) string {
	if len(lost) == 0 {
		return ""
	}
	return "# The node's resolver " + strings.Join(lost, ", ") + " cannot be reached from the pod's network.\n"
}

func beyondLoopback(servers []string) (out, lost []string) {
	for _, s := range servers {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Unmap().IsLoopback() || a.IsUnspecified() || a.Zone() != "" {
			lost = append(lost, s)
			continue
		}
		out = append(out, s)
	}
	return out, lost
}

// parse reads resolv.conf(5). The last "search" or "domain" wins; a server that is no address is passed over, as the
// resolver does.
func parse(text string) (d spec.DNS) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 || strings.ContainsAny(f[0][:1], "#;") {
			continue
		}
		for i, s := range f {
			if strings.ContainsAny(s[:1], "#;") {
				f = f[:i]
				break
			}
		}
		switch rest := f[1:]; {
		case len(rest) == 0:
		case f[0] == "nameserver":
			if _, err := netip.ParseAddr(rest[0]); err == nil {
				d.Servers = append(d.Servers, rest[0])
			}
		case f[0] == "search":
			d.Searches = words(rest)
		case f[0] == "domain":
			d.Searches = words(rest[:1])
		case f[0] == "options":
			d.Options = append(d.Options, words(rest)...)
		}
	}
	return d
}

func words(in []string) (out []string) {
	for _, s := range in {
		if word(s) {
			out = append(out, s)
		}
	}
	return out
}
