package network

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/network/address"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// A pod with CAP_NET_RAW sends what it likes; a neighbour and the node must not see it.
func TestSpoofedFramesAreDropped(t *testing.T) {
	node, _ := newNode(t)
	node.run(func() { // with it, the bridge cuts off what a frame has behind its packet: the marks
		must(setSysctls([]sysctl{{"bridge/bridge-nf-call-iptables", "0"}, {"bridge/bridge-nf-call-ip6tables", "0"}}))
	})
	n := start(t, node, config(t), nil, nil)
	evil, victim := addPod(t, n), addPod(t, n)
	sniff := victim.packetSocket(t)
	own := address.MAC(netip.MustParseAddr(evil.v4))
	other := [6]byte{2, 0, 0, 0, 0, 9}
	gw4, gw6 := netip.MustParseAddr("10.88.0.1"), netip.MustParseAddr("fd00:88::1")
	ip4, ip6 := netip.MustParseAddr(evil.v4), netip.MustParseAddr(evil.v6)
	ll := address.LinkLocal(own)
	for name, c := range map[string]struct {
		frame []byte
		pass  bool
	}{
		"honest ARP":           {arpFrame(own, ip4), true},
		"honest IPv4":          {ip4Frame(own, ip4), true},
		"honest IPv6":          {ip6Frame(own, ip6, 17, nil), true},
		"link-local IPv6":      {ip6Frame(own, ll, 17, nil), true},
		"honest advertisement": {ip6Frame(own, ip6, 58, neighbourAdvertisement(ip6)), true},
		"duplicate detection":  {ip6Frame(own, netip.IPv6Unspecified(), 58, []byte{135, 0, 0, 0, 0, 0, 0, 0}), true},
		"other MAC":            {ip4Frame(other, ip4), false},
		"ARP for the gateway":  {arpFrame(own, gw4), false},
		"IPv4 of the gateway":  {ip4Frame(own, gw4), false},
		"IPv4 of elsewhere":    {ip4Frame(own, netip.MustParseAddr("192.0.2.99")), false},
		"IPv6 of the gateway":  {ip6Frame(own, gw6, 17, nil), false},
		"other link-local":     {ip6Frame(own, netip.MustParseAddr("fe80::1"), 17, nil), false},
		"router advertisement": {ip6Frame(own, ll, 58, []byte{134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0}), false},
		"redirect":             {ip6Frame(own, ll, 58, append([]byte{137, 0, 0, 0, 0, 0, 0, 0}, make([]byte, 32)...)), false},
		"gateway's neighbour":  {ip6Frame(own, ip6, 58, neighbourAdvertisement(gw6)), false},
		"another protocol":     {etherFrame(own, 0x88cc, make([]byte, 50)), false},
	} {
		// Every frame carries its own mark behind what its headers count, and a second, honest frame ends the wait.
		mark, end := newID()[:16], newID()[:16]
		evil.sendFrame(t, append(c.frame, mark...))
		evil.sendFrame(t, append(ip4Frame(own, ip4), end...))
		if got := sniff(mark, end); got != c.pass {
			t.Errorf("%s: passed is %v, want %v", name, got, c.pass)
		}
	}
}

// packetSocket opens a packet socket on eth0; the function that it returns reads until a frame ends with end, and
// tells whether one before ended with mark.
func (n *ns) packetSocket(t *testing.T) func(mark, end string) bool {
	fd := -1
	n.run(func() {
		l, err := netlink.LinkByName(podLink)
		must(err)
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_ALL)))
		must(err)
		must(unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: l.Attrs().Index}))
		must(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}))
	})
	t.Cleanup(func() { unix.Close(fd) })
	return func(mark, end string) (seen bool) {
		buf := make([]byte, 2048)
		for {
			k, _, err := unix.Recvfrom(fd, buf, 0)
			if err != nil {
				t.Fatalf("the honest frame does not arrive: %v", err)
			}
			switch b := buf[:k]; {
			case hasSuffix(b, mark):
				seen = true
			case hasSuffix(b, end):
				return seen
			}
		}
	}
}

func hasSuffix(b []byte, s string) bool { return len(b) >= len(s) && string(b[len(b)-len(s):]) == s }

func (p *testPod) sendFrame(t *testing.T, frame []byte) {
	t.Helper()
	p.run(func() {
		l, err := netlink.LinkByName(podLink)
		must(err)
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		must(err)
		defer unix.Close(fd)
		must(unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: l.Attrs().Index}))
	})
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

func etherFrame(src [6]byte, typ uint16, payload []byte) []byte {
	f := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, src[:]...)
	return append(binary.BigEndian.AppendUint16(f, typ), payload...)
}

func arpFrame(src [6]byte, sender netip.Addr) []byte {
	p := []byte{0, 1, 8, 0, 6, 4, 0, 2}
	p = append(append(p, src[:]...), sender.AsSlice()...)
	p = append(append(p, make([]byte, 6)...), 10, 88, 0, 250)
	return etherFrame(src, unix.ETH_P_ARP, p)
}

func ip4Frame(src [6]byte, from netip.Addr) []byte {
	p := []byte{0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0}
	p = append(append(p, from.AsSlice()...), 255, 255, 255, 255)
	var sum uint32
	for i := 0; i < len(p); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(p[i:]))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(p[10:], ^uint16(sum+sum>>16))
	return etherFrame(src, unix.ETH_P_IP, append(p, 0, 9, 0, 9, 0, 8, 0, 0))
}

func ip6Frame(src [6]byte, from netip.Addr, proto byte, body []byte) []byte {
	if body == nil {
		body = []byte{0, 9, 0, 9, 0, 8, 0, 0}
	}
	p := []byte{0x60, 0, 0, 0, 0, byte(len(body)), proto, 255}
	p = append(p, from.AsSlice()...)
	p = append(p, netip.MustParseAddr("ff02::1").AsSlice()...)
	return etherFrame(src, unix.ETH_P_IPV6, append(p, body...))
}

func neighbourAdvertisement(target netip.Addr) []byte {
	return append([]byte{136, 0, 0, 0, 0x20, 0, 0, 0}, target.AsSlice()...)
}

// CVE-2020-8558: route_localnet must not let a pod reach what listens on the node's loopback only. What counts is that
// the packet does not get to the node's input hook: the attacker's own kernel may refuse the answer.
func TestLoopbackOfTheNodeIsNotReached(t *testing.T) {
	node, outside := newNode(t)
	n := start(t, node, config(t), nil, nil)
	p := addPod(t, n, spec.PortMapping{Protocol: spec.TCP, HostIP: "127.0.0.1", HostPort: 8081, ContainerPort: 80})
	p.serve("tcp", ":80")
	node.serve("tcp", "127.0.0.1:7000")
	node.reach("tcp", "127.0.0.1:8081", "")
	node.sh("nft", "add table ip watch; add chain ip watch in { type filter hook input priority 0; }; add chain ip watch pre { type filter hook prerouting priority -350; };"+
		"add rule ip watch in iifname != lo ip daddr 127.0.0.0/8 counter; add rule ip watch pre iifname != lo ip daddr 127.0.0.0/8 counter")
	for who, via := range map[*ns]struct{ gateway, link string }{p.ns: {"10.88.0.1", podLink}, outside: {nodeIP4, "uplink"}} {
		// As an attacker with CAP_NET_ADMIN does it: its own loopback is elsewhere, 127.0.0.1 is behind the node.
		who.run(func() { must(setSysctls([]sysctl{{"ipv4/conf/all/route_localnet", "1"}})) })
		who.sh("ip", "route", "del", "local", "127.0.0.0/8", "dev", "lo", "table", "local")
		who.sh("ip", "route", "del", "local", "127.0.0.1", "dev", "lo", "table", "local")
		who.sh("ip", "route", "add", "127.0.0.0/8", "via", via.gateway, "dev", via.link)
		who.refuse("tcp", "127.0.0.1:7000")
		who.refuse("tcp", "127.0.0.1:8081")
	}
	if in := node.sh("nft", "list", "chain", "ip", "watch", "in"); !strings.Contains(in, "counter packets 0 ") {
		t.Errorf("packets for the node's loopback came in from elsewhere:\n%s", in)
	}
	if pre := node.sh("nft", "list", "chain", "ip", "watch", "pre"); strings.Contains(pre, "counter packets 0 ") {
		t.Errorf("the attack never got to the node, so the test proves nothing:\n%s", pre)
	}
}

func TestOpenConnectionsSurviveRebuild(t *testing.T) {
	node, outside := newNode(t)
	n := start(t, node, config(t), nil, nil)
	p := addPod(t, n, spec.PortMapping{Protocol: spec.TCP, HostPort: 8080, ContainerPort: 80})
	var l net.Listener
	p.run(func() { l, _ = net.Listen("tcp4", ":80") })
	defer l.Close()
	var c net.Conn
	var err error
	outside.run(func() { c, err = net.DialTimeout("tcp", join(nodeIP4, 8080), 3*time.Second) })
	must(err)
	defer c.Close()
	s, err := l.Accept()
	must(err)
	defer s.Close()
	for range 3 {
		if err := n.rebuild(); err != nil {
			t.Fatal(err)
		}
		for _, way := range [][2]net.Conn{{c, s}, {s, c}} {
			way[1].SetReadDeadline(time.Now().Add(3 * time.Second))
			way[0].Write([]byte("x"))
			if _, err := way[1].Read(make([]byte, 1)); err != nil {
				t.Fatalf("an open connection did not survive: %v", err)
			}
		}
	}
}
