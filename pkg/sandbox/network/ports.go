package network

import (
	"net/netip"
	"slices"
	"strconv"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// hostPort is one published port of one family: what the request's mapping means.
type hostPort struct {
	proto spec.Protocol
	v4    bool
	host  netip.Addr // the zero Addr is every address of the family
	port  uint16     // on the node
	to    uint16     // in the pod
}

// overlaps tells whether one packet could match both.
func (p hostPort) overlaps(o hostPort) bool {
	return p.proto == o.proto && p.v4 == o.v4 && p.port == o.port &&
		(!p.host.IsValid() || !o.host.IsValid() || p.host == o.host)
}

// resolvePorts turns the request's mappings into host ports, for a pod with addresses of the given families. Mappings
// without a host port publish nothing. The order is the request's.
func resolvePorts(in []spec.PortMapping, v4, v6 bool) ([]hostPort, error) {
	var out []hostPort
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
			if i := slices.IndexFunc(out, p.overlaps); i >= 0 && out[i].to != p.to {
				return nil, spec.Invalidf("host port %d/%s is mapped twice, to ports %d and %d", p.port, p.proto, out[i].to, p.to)
			}
			out = append(out, p)
		}
	}
	return out, nil
}

func resolvePort(m spec.PortMapping, v4, v6 bool) ([]hostPort, error) {
	switch m.Protocol {
	case spec.TCP, spec.UDP, spec.SCTP:
	default:
		return nil, spec.Invalidf("host port %d: protocol %q is not tcp, udp or sctp", m.HostPort, m.Protocol)
	}
	if m.ContainerPort == 0 {
		return nil, spec.Invalidf("host port %d/%s names no container port", m.HostPort, m.Protocol)
	}
	p := hostPort{proto: m.Protocol, v4: true, port: m.HostPort, to: m.ContainerPort}
	if m.HostIP == "" {
		var out []hostPort
		if v4 {
			out = append(out, p)
		}
		if v6 {
			p.v4 = false
			out = append(out, p)
		}
		return out, nil
	}
	ip, err := netip.ParseAddr(m.HostIP)
	if err != nil || ip.Zone() != "" {
		return nil, spec.Invalidf("host port %d/%s: host IP %q is not an IP address", m.HostPort, m.Protocol, m.HostIP)
	}
	ip = ip.Unmap()
	p.v4 = ip.Is4()
	switch {
	case p.v4 && !v4 || !p.v4 && !v6:
		return nil, spec.Invalidf("host port %d/%s: the pod has no address of host IP %s's family", m.HostPort, m.Protocol, ip)
	case ip == netip.IPv6Loopback():
		return nil, spec.Invalidf("host port %d/%s: the kernel routes nothing from ::1 to a pod; use 127.0.0.1 or an address of the node", m.HostPort, m.Protocol)
	case ip.IsMulticast():
		return nil, spec.Invalidf("host port %d/%s: host IP %s is multicast", m.HostPort, m.Protocol, ip)
	case !ip.IsUnspecified():
		p.host = ip
	}
	return []hostPort{p}, nil
}

// portConflict names the first pod, in the order of ids, that holds one of want. The error is AlreadyExists.
func portConflict(id string, want []hostPort, pods map[string]*pod) error {
	var holder *pod
	var port hostPort
	for _, p := range pods {
		if p.id == id || holder != nil && holder.id < p.id {
			continue
		}
		for _, w := range want {
			if slices.ContainsFunc(p.ports, w.overlaps) {
				holder, port = p, w
				break
			}
		}
	}
	if holder == nil {
		return nil
	}
	return spec.Errorf(errdefs.ErrAlreadyExists, "host port %s is in use by sandbox %s", port, holder.id)
}

// String is for errors: "8080/tcp on 127.0.0.1".
func (p hostPort) String() string {
	s := strconv.Itoa(int(p.port)) + "/" + string(p.proto)
	if p.host.IsValid() {
		s += " on " + p.host.String()
	}
	return s
}
