package network

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"

	"github.com/runtimed/runtimed/pkg/sandbox/network/ruleset"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func m(proto spec.Protocol, ip string, host, container uint16) spec.PortMapping {
	return spec.PortMapping{Protocol: proto, HostIP: ip, HostPort: host, ContainerPort: container}
}

func TestPortConflict(t *testing.T) {
	ports := func(ms ...spec.PortMapping) []ruleset.HostPort {
		out, err := ruleset.ResolvePorts(ms, true, true)
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

func TestUDPFlowFilter(t *testing.T) {
	u := &udpFlows{
		ports: []ruleset.HostPort{{Proto: spec.UDP, V4: true, Port: 53}, {Proto: spec.UDP, V4: true, Port: 54, Host: netip.MustParseAddr("192.0.2.1")}},
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
