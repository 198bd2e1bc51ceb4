package network

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func m(proto spec.Protocol, ip string, host, container uint16) spec.PortMapping {
	return spec.PortMapping{Protocol: proto, HostIP: ip, HostPort: host, ContainerPort: container}
}

func TestResolvePorts(t *testing.T) {
	for name, c := range map[string]struct {
		in   []spec.PortMapping
		v4   bool
		v6   bool
		want string // the ports, or "error: " and a part of it
	}{
		"none":             {nil, true, true, "[]"},
		"not published":    {[]spec.PortMapping{m("tcp", "", 0, 80), m("", "?", 0, 0)}, true, true, "[]"},
		"both families":    {[]spec.PortMapping{m("tcp", "", 1, 80)}, true, true, "[1/tcp 1/tcp]"},
		"one family":       {[]spec.PortMapping{m("tcp", "", 1, 80)}, true, false, "[1/tcp]"},
		"all of IPv4":      {[]spec.PortMapping{m("udp", "0.0.0.0", 1, 80)}, true, true, "[1/udp]"},
		"all of IPv6":      {[]spec.PortMapping{m("udp", "::", 1, 80)}, true, true, "[1/udp]"},
		"one address":      {[]spec.PortMapping{m("tcp", "192.0.2.1", 1, 80)}, true, true, "[1/tcp on 192.0.2.1]"},
		"mapped address":   {[]spec.PortMapping{m("tcp", "::ffff:192.0.2.1", 1, 80)}, true, true, "[1/tcp on 192.0.2.1]"},
		"same twice":       {[]spec.PortMapping{m("tcp", "", 1, 80), m("tcp", "", 1, 80)}, true, false, "[1/tcp]"},
		"overlap, same to": {[]spec.PortMapping{m("tcp", "", 1, 80), m("tcp", "127.0.0.1", 1, 80)}, true, false, "[1/tcp 1/tcp on 127.0.0.1]"},
		"two addresses":    {[]spec.PortMapping{m("tcp", "127.0.0.1", 1, 80), m("tcp", "127.0.0.2", 1, 81)}, true, false, "[1/tcp on 127.0.0.1 1/tcp on 127.0.0.2]"},
		"two protocols":    {[]spec.PortMapping{m("tcp", "", 1, 80), m("udp", "", 1, 81)}, true, false, "[1/tcp 1/udp]"},
		"mapped twice":     {[]spec.PortMapping{m("tcp", "", 1, 80), m("tcp", "", 1, 81)}, true, true, "error: mapped twice, to ports 80 and 81"},
		"protocol":         {[]spec.PortMapping{m("icmp", "", 1, 80)}, true, true, `error: protocol "icmp"`},
		"no container":     {[]spec.PortMapping{m("tcp", "", 1, 0)}, true, true, "error: no container port"},
		"not an IP":        {[]spec.PortMapping{m("tcp", "a\nb", 1, 80)}, true, true, `error: "a\nb"`},
		"zone":             {[]spec.PortMapping{m("tcp", "fe80::1%eth0", 1, 80)}, true, true, "error: not an IP address"},
		"wrong family":     {[]spec.PortMapping{m("tcp", "::", 1, 80)}, true, false, "error: family"},
		"IPv6 loopback":    {[]spec.PortMapping{m("tcp", "::1", 1, 80)}, true, true, "error: ::1"},
		"multicast":        {[]spec.PortMapping{m("tcp", "224.0.0.1", 1, 80)}, true, true, "error: multicast"},
	} {
		got, err := resolvePorts(c.in, c.v4, c.v6)
		want, isError := strings.CutPrefix(c.want, "error: ")
		switch {
		case isError && (!errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want it to say %q", name, err, want)
		case !isError && (err != nil || fmt.Sprint(got) != want):
			t.Errorf("%s: %v, %v, want %s", name, got, err, want)
		}
	}
}

func TestPortConflict(t *testing.T) {
	ports := func(ms ...spec.PortMapping) []hostPort {
		out, err := resolvePorts(ms, true, true)
		must(err)
		return out
	}
	pods := map[string]*pod{
		"b": {id: "b", ports: ports(m("tcp", "", 80, 1))},
		"a": {id: "a", ports: ports(m("tcp", "", 80, 1), m("udp", "10.0.0.1", 53, 1))},
	}
	for _, c := range []struct {
		m      spec.PortMapping
		holder string
	}{
		{m("tcp", "", 80, 9), "a"}, {m("tcp", "::", 80, 9), "a"}, {m("tcp", "10.0.0.9", 80, 9), "a"},
		{m("udp", "", 53, 9), "a"}, {m("udp", "0.0.0.0", 53, 9), "a"}, {m("udp", "10.0.0.1", 53, 9), "a"},
		{m("udp", "10.0.0.2", 53, 9), ""}, {m("udp", "::", 53, 9), ""}, {m("tcp", "", 53, 9), ""}, {m("udp", "", 80, 9), ""},
	} {
		err := portConflict("new", ports(c.m), pods)
		if c.holder == "" && err != nil || c.holder != "" && (!errdefs.IsAlreadyExists(err) || !strings.HasSuffix(err.Error(), "sandbox "+c.holder)) {
			t.Errorf("%+v: %v, want a conflict with %q", c.m, err, c.holder)
		}
	}
	if err := portConflict("a", ports(m("udp", "", 53, 1)), pods); err != nil {
		t.Errorf("a sandbox conflicts with itself: %v", err)
	}
}

func TestElements(t *testing.T) {
	cfg := config(t)
	r := newRuleset(cfg)
	p := &pod{id: newID(), addrs: []netip.Addr{netip.MustParseAddr("10.88.0.2"), netip.MustParseAddr("fd00:88::2")}}
	var err error
	p.ports, err = resolvePorts([]spec.PortMapping{m("tcp", "", 0x1f90, 80), m("udp", "127.0.0.1", 53, 5353)}, true, true)
	must(err)
	got := r.elements(cfg, p)
	want := map[*nftables.Set][2]string{
		r.portAny[0]: {"06000000" + "1f900000", "0a580002" + "00500000"},
		r.portAny[1]: {"06000000" + "1f900000", "fd000088000000000000000000000002" + "00500000"},
		r.portAt[0]:  {"7f000001" + "11000000" + "00350000", "0a580002" + "14e90000"},
	}
	for s, w := range want {
		if es := got[s]; len(es) != 1 || fmt.Sprintf("%x", es[0].Key) != w[0] || fmt.Sprintf("%x", es[0].Val) != w[1] || es[0].Comment != p.id {
			t.Errorf("%s: %+v", s.Name, es)
		}
	}
	if len(got[r.portAt[1]]) != 0 || len(got[r.macs]) != 1 || len(got[r.sources[0]]) != 1 || len(got[r.sources[1]]) != 2 {
		t.Errorf("elements: %v", got)
	}
	for s, es := range got {
		for _, e := range es {
			if len(e.Key) != int(s.KeyType.Bytes) || s.IsMap && len(e.Val) != int(s.DataType.Bytes) {
				t.Errorf("%s: a key of %d and a value of %d bytes", s.Name, len(e.Key), len(e.Val))
			}
		}
	}
}

func TestUDPFlowFilter(t *testing.T) {
	u := &udpFlows{
		ports: []hostPort{{proto: spec.UDP, v4: true, port: 53}, {proto: spec.UDP, v4: true, port: 54, host: netip.MustParseAddr("192.0.2.1")}},
		addrs: []netip.Addr{netip.MustParseAddr("10.88.0.2")},
	}
	flow := func(proto uint8, dst string, port uint16, replySrc string) *netlink.ConntrackFlow {
		f := &netlink.ConntrackFlow{}
		f.Forward.Protocol, f.Forward.DstPort = proto, port
		f.Forward.DstIP = netip.MustParseAddr(dst).AsSlice()
		f.Reverse.SrcIP = netip.MustParseAddr(replySrc).AsSlice()
		return f
	}
	for _, c := range []struct {
		f    *netlink.ConntrackFlow
		want bool
	}{
		{flow(17, "192.0.2.9", 53, "192.0.2.9"), true},
		{flow(17, "192.0.2.9", 54, "192.0.2.9"), false},
		{flow(17, "192.0.2.1", 54, "192.0.2.1"), true},
		{flow(6, "192.0.2.1", 53, "10.88.0.2"), false},
		{flow(17, "192.0.2.1", 99, "10.88.0.2"), true},
		{flow(17, "192.0.2.1", 99, "10.88.0.3"), false},
		{&netlink.ConntrackFlow{}, false},
	} {
		if got := u.MatchConntrackFlow(c.f); got != c.want {
			t.Errorf("%v: %v", c.f, got)
		}
	}
}
