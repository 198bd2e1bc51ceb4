package network

import (
	"strings"
	"testing"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func TestReachDualStack(t *testing.T) {
	node, outside := newNode(t)
	n := start(t, node, config(t), nil, nil)
	if c := n.Condition(); !c.OK {
		t.Fatalf("condition: %+v", c)
	}
	a, b := addPod(t, n), addPod(t, n)
	if a.v4 != "10.88.0.2" || a.v6 != "fd00:88::2" || b.v4 != "10.88.0.3" || b.v6 != "fd00:88::3" {
		t.Errorf("addresses %s %s %s %s", a.v4, a.v6, b.v4, b.v6)
	}
	b.serve("tcp", ":80")
	b.serve("udp", ":53")
	node.serve("tcp", ":8000")
	outside.serve("tcp", ":9000")
	outside.serve("udp4", ":9000")
	outside.serve("udp6", ":9001")
	a.reach("tcp", join(b.v4, 80), a.v4)
	a.reach("tcp", join(b.v6, 80), a.v6)
	a.reach("udp", join(b.v4, 53), a.v4)
	a.reach("tcp", "10.88.0.1:8000", a.v4)
	a.reach("tcp", "[fd00:88::1]:8000", a.v6)
	a.reach("tcp", join(nodeIP4, 8000), a.v4)
	a.reach("tcp", join(outsideIP4, 9000), nodeIP4)
	a.reach("tcp", join(outsideIP6, 9000), nodeIP6)
	a.reach("udp", join(outsideIP4, 9000), nodeIP4)
	a.reach("udp", join(outsideIP6, 9001), nodeIP6)
	node.reach("tcp", join(b.v4, 80), "10.88.0.1")
	node.reach("tcp", join(b.v6, 80), "fd00:88::1")
	a.serve("tcp", "127.0.0.1:7000")
	a.reach("tcp", "127.0.0.1:7000", "127.0.0.1")
}

func TestReachHostPorts(t *testing.T) {
	for _, bridged := range []string{"0", "1"} {
		t.Run("bridge-nf-call-iptables="+bridged, func(t *testing.T) {
			node, outside := newNode(t)
			node.run(func() {
				must(setSysctls([]sysctl{{"bridge/bridge-nf-call-iptables", bridged}, {"bridge/bridge-nf-call-ip6tables", bridged}}))
			})
			n := start(t, node, config(t), nil, nil)
			pod := addPod(t, n,
				spec.PortMapping{Protocol: spec.TCP, HostPort: 8080, ContainerPort: 80},
				spec.PortMapping{Protocol: spec.UDP, HostPort: 5353, ContainerPort: 53},
				spec.PortMapping{Protocol: spec.TCP, HostIP: "127.0.0.1", HostPort: 8081, ContainerPort: 80},
				spec.PortMapping{Protocol: spec.TCP, HostIP: nodeIP6, HostPort: 8082, ContainerPort: 80},
				spec.PortMapping{Protocol: spec.TCP, HostIP: "0.0.0.0", HostPort: 8083, ContainerPort: 80},
				spec.PortMapping{Protocol: spec.TCP, ContainerPort: 81})
			other := addPod(t, n)
			pod.serve("tcp", ":80")
			pod.serve("udp4", join(pod.v4, 53))
			pod.serve("udp6", join(pod.v6, 53))

			outside.reach("tcp", join(nodeIP4, 8080), outsideIP4)
			outside.reach("tcp", join(nodeIP6, 8080), outsideIP6)
			outside.reach("udp", join(nodeIP4, 5353), outsideIP4)
			outside.reach("udp", join(nodeIP6, 5353), outsideIP6)
			outside.reach("tcp", join(nodeIP6, 8082), outsideIP6)
			outside.reach("tcp", join(nodeIP4, 8083), outsideIP4)
			outside.refuse("tcp", join(nodeIP4, 8081))
			outside.refuse("tcp", join(nodeIP4, 8082))
			outside.refuse("tcp", join(nodeIP6, 8083))

			node.reach("tcp", join(nodeIP4, 8080), "")
			node.reach("tcp", join(nodeIP6, 8080), "")
			node.reach("udp", join(nodeIP4, 5353), "")
			node.reach("udp", join(nodeIP6, 5353), "")
			node.reach("tcp", "127.0.0.1:8080", "10.88.0.1")
			node.reach("udp", "127.0.0.1:5353", "10.88.0.1")
			node.reach("tcp", "127.0.0.1:8081", "10.88.0.1")
			node.refuse("tcp", "[::1]:8080")

			for _, from := range []*testPod{other, pod} { // a neighbour's, and its own
				from.reach("tcp", join(nodeIP4, 8080), "10.88.0.1")
				from.reach("tcp", join(nodeIP6, 8080), "fd00:88::1")
				from.reach("tcp", "10.88.0.1:8080", "10.88.0.1")
				from.reach("udp", join(nodeIP4, 5353), "10.88.0.1")
				from.refuse("tcp", join(nodeIP4, 8081))
			}
			if t.Failed() {
				t.Log(node.sh("nft", "list", "ruleset"))
			}
		})
	}
}

func TestNodeSettingsAreKept(t *testing.T) {
	node, _ := newNode(t)
	node.sh("ip", "link", "set", "uplink", "mtu", "1400")
	node.sh("ip", "route", "add", "default", "via", outsideIP4)
	node.sh("ip", "-6", "route", "add", "default", "via", outsideIP6, "dev", "uplink", "proto", "ra")
	n := start(t, node, config(t), nil, nil)
	p := addPod(t, n)
	if l := p.sh("ip", "link", "show", "eth0"); !strings.Contains(l, "mtu 1400") {
		t.Errorf("the pod's MTU is not the uplink's: %s", l)
	}
	// Forwarding makes a node deaf to router advertisements, unless accept_ra is 2.
	for key, want := range map[string]string{
		"net.ipv6.conf.uplink.accept_ra": "2", "net.ipv6.conf.rtbr0.accept_ra": "0", "net.ipv6.conf.lo.accept_ra": "1",
		"net.ipv6.conf.all.forwarding": "1", "net.ipv4.ip_forward": "1",
		"net.ipv4.conf.rtbr0.route_localnet": "1", "net.ipv4.conf.all.route_localnet": "0", "net.ipv4.conf.uplink.route_localnet": "0",
	} {
		if got := strings.TrimSpace(node.sh("sysctl", "-n", key)); got != want {
			t.Errorf("%s is %s, want %s", key, got, want)
		}
	}
	if got := strings.TrimSpace(p.sh("sysctl", "-n", "net.ipv6.conf.eth0.accept_ra")); got != "0" {
		t.Errorf("the pod's accept_ra is %s", got)
	}
}
