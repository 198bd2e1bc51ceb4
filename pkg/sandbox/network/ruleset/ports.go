package ruleset

import (
	"net/netip"
	"slices"
	"strconv"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// HostPort is one published port of one family: what the request's mapping means.
type HostPort struct {
	Proto spec.Protocol
	V4    bool
	Host  netip.Addr // the zero Addr is every address of the family
	Port  uint16     // on the node
	To    uint16     // in the pod
}

// Overlaps tells whether one packet could match both.
func (p HostPort) Overlaps(o HostPort) bool {
	return p.Proto == o.Proto && p.V4 == o.V4 && p.Port == o.Port &&
		(!p.Host.IsValid() || !o.Host.IsValid() || p.Host == o.Host)
}

// ResolvePorts turns the request's mappings into host ports, for a pod with addresses of the given families. Mappings
// without a host port publish nothing. The order is the request's.
func ResolvePorts(in []spec.PortMapping, v4, v6 bool) ([]HostPort, error) {
	var out []HostPort
	for _, m := range in {
		if m.HostPort == 0 {
			continue
		}
		ps, err := resolvePort(m, v4, v6)
		if err != nil {
			return nil, err
		}
		for _, p := range ps {
			if slices.Contains(out, p) {
				continue
			}
			if i := slices.IndexFunc(out, p.Overlaps); i >= 0 && out[i].To != p.To {
				return nil, spec.Invalidf("host port %d/%s is mapped twice, to ports %d and %d", p.Port, p.Proto, out[i].To, p.To)
			}
			out = append(out, p)
		}
	}
	return out, nil
}

func resolvePort(m spec.PortMapping, v4, v6 bool) ([]HostPort, error) {
	switch m.Protocol {
	case spec.TCP, spec.UDP, spec.SCTP:
	default:
		return nil, spec.Invalidf("host port %d: protocol %q is not tcp, udp or sctp", m.HostPort, m.Protocol)
	}
	if m.ContainerPort == 0 {
		return nil, spec.Invalidf("host port %d/%s names no container port", m.HostPort, m.Protocol)
	}
	p := HostPort{Proto: m.Protocol, V4: true, Port: m.HostPort, To: m.ContainerPort}
	if m.HostIP == "" {
		var out []HostPort
		if v4 {
			out = append(out, p)
		}
		if v6 {
			p.V4 = false
			out = append(out, p)
		}
		return out, nil
	}
	ip, err := netip.ParseAddr(m.HostIP)
	if err != nil || ip.Zone() != "" {
		return nil, spec.Invalidf("host port %d/%s: host IP %q is not an IP address", m.HostPort, m.Protocol, m.HostIP)
	}
	ip = ip.Unmap()
	p.V4 = ip.Is4()
	switch {
	case p.V4 && !v4 || !p.V4 && !v6:
		return nil, spec.Invalidf("host port %d/%s: the pod has no address of host IP %s's family", m.HostPort, m.Protocol, ip)
	case ip == netip.IPv6Loopback():
		return nil, spec.Invalidf("host port %d/%s: the kernel routes nothing from ::1 to a pod; use 127.0.0.1 or an address of the node", m.HostPort, m.Protocol)
	case ip.IsMulticast():
		return nil, spec.Invalidf("host port %d/%s: host IP %s is multicast", m.HostPort, m.Protocol, ip)
	case !ip.IsUnspecified():
		p.Host = ip
	}
	return []HostPort{p}, nil
}

// String is for errors: "8080/tcp on 127.0.0.1".
func (p HostPort) String() string {
	s := strconv.Itoa(int(p.Port)) + "/" + string(p.Proto)
	if p.Host.IsValid() {
		s += " on " + p.Host.String()
	}
	return s
}
