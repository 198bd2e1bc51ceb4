package network

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// snapshot is what other programs see of a namespace's network. Nothing of this package takes part.
func snapshot(n *ns) map[string]string {
	out := map[string]string{}
	for _, c := range []string{"ip -o link show type bridge", "ip -o link show type veth", "ip -o addr", "ip route show table all", "ip -6 route show table all", "nft list ruleset", "ss -lntuH"} {
		lines := strings.Split(stable(n.sh(strings.Fields(c)...)), "\n")
		slices.Sort(lines)
		out[c] = strings.Join(lines, "\n")
	}
	return out
}

// stable drops what changes by itself: link indexes, carrier, cache timers.
func stable(s string) string {
	var out []string
	for l := range strings.Lines(s) {
		l = strings.TrimSpace(l)
		if strings.HasPrefix(l, "multicast ff") || strings.HasPrefix(l, "anycast ") {
			continue
		}
		// The kernel adds these a moment after a link or an address, and with a bridge's first carrier.
		if f := strings.Fields(l); strings.Contains(l, "fe80:") || len(f) > 1 && f[0] == "local" && strings.Contains(f[1], ":") {
			continue
		}
		var words []string
		for i, w := range strings.Fields(l) {
			if i == 0 && strings.HasSuffix(w, ":") || strings.HasPrefix(w, "<") || w == "linkdown" || w == "UP" || w == "DOWN" {
				continue
			}
			words = append(words, w)
		}
		out = append(out, strings.Join(words, " "))
	}
	return strings.Join(out, "\n")
}

func same(t *testing.T, before, after map[string]string) {
	t.Helper()
	if d := cmp.Diff(before, after); d != "" {
		t.Errorf("something is left or missing (-before +after):\n%s", d)
	}
}

func leaks(t *testing.T, node *ns, cfg Config, live map[string]spec.NetworkResult) []string {
	t.Helper()
	var out []string
	var err error
	node.run(func() { out, err = Leaks(t.Context(), cfg, live) })
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRemoveLeavesNothing(t *testing.T) {
	node, _ := newNode(t)
	bare := snapshot(node)
	cfg := config(t)
	n := start(t, node, cfg, nil, nil)
	before := snapshot(node)
	for _, held := range []bool{true, false} {
		p := addPod(t, n, spec.PortMapping{Protocol: spec.TCP, HostPort: 8080, ContainerPort: 80},
			spec.PortMapping{Protocol: spec.UDP, HostIP: nodeIP4, HostPort: 53, ContainerPort: 53})
		if !held {
			p.remove()
		}
		for range 2 { // with its result, then again
			if err := n.Remove(t.Context(), p.id, &p.result); err != nil {
				t.Fatal(err)
			}
			if _, err := byName(node, cfg.VethName(p.id)); !isNotExist(err) {
				t.Errorf("the link is there after Remove (namespace held: %v): %v", held, err)
			}
		}
		if held {
			p.run(func() {
				if _, err := netlink.LinkByName("eth0"); !isNotExist(err) {
					t.Errorf("the pod's end is there after Remove: %v", err)
				}
			})
		}
		same(t, before, snapshot(node))
	}
	if err := n.Remove(t.Context(), newID(), nil); err != nil {
		t.Errorf("a sandbox that never was: %v", err)
	}
	if err := n.Remove(t.Context(), "", nil); !errdefs.IsInvalidArgument(err) {
		t.Errorf("no id: %v", err)
	}
	if err := n.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
	same(t, bare, snapshot(node))
}

func byName(n *ns, name string) (l netlink.Link, err error) {
	n.run(func() { l, err = netlink.LinkByName(name) })
	return l, err
}

func TestTwoDaemonsSideBySide(t *testing.T) {
	node, outside := newNode(t)
	one := config(t)
	two := config(t, "10.99.0.0/24", "fd00:99::/64")
	two.Bridge, two.Table = "rtbr1", "other"
	a, b := start(t, node, one, nil, nil), start(t, node, two, nil, nil)
	p := addPod(t, a, spec.PortMapping{Protocol: spec.TCP, HostPort: 8080, ContainerPort: 80})
	q := addPod(t, b, spec.PortMapping{Protocol: spec.TCP, HostPort: 8090, ContainerPort: 80})
	p.serve("tcp", ":80")
	q.serve("tcp", ":80")
	check := func() {
		t.Helper()
		outside.reach("tcp", join(nodeIP4, 8080), outsideIP4)
		outside.reach("tcp", join(nodeIP6, 8090), outsideIP6)
		node.reach("tcp", "127.0.0.1:8080", "10.88.0.1")
		node.reach("tcp", "127.0.0.1:8090", "10.99.0.1")
		p.reach("tcp", join(nodeIP4, 8090), "")
		q.reach("tcp", join(nodeIP6, 8080), "")
	}
	check()
	_, err := b.Add(t.Context(), request(newNS(t, "late"), spec.PortMapping{Protocol: spec.TCP, HostPort: 8080, ContainerPort: 1}))
	if !errdefs.IsAlreadyExists(err) || !strings.Contains(err.Error(), "8080/tcp") {
		t.Errorf("a host port of the other daemon: %v", err)
	}
	// The other daemon starts again, and then takes all of its own away.
	b.Close()
	b = start(t, node, two, map[string]spec.NetworkResult{q.id: q.result}, nil)
	check()
	if err := b.Remove(t.Context(), q.id, nil); err != nil {
		t.Fatal(err)
	}
	if err := b.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
	outside.reach("tcp", join(nodeIP4, 8080), outsideIP4)
	node.reach("tcp", "127.0.0.1:8080", "10.88.0.1")
	if l := leaks(t, node, one, map[string]spec.NetworkResult{p.id: p.result}); l != nil {
		t.Errorf("leaks: %q", l)
	}
}

func TestAddRefuses(t *testing.T) {
	node, _ := newNode(t)
	n := start(t, node, config(t), nil, nil)
	node.serve("tcp", "127.0.0.1:7777")
	node.serve("udp", ":7778")
	first := addPod(t, n, spec.PortMapping{Protocol: spec.TCP, HostIP: nodeIP4, HostPort: 8080, ContainerPort: 80})
	addPod(t, n, spec.PortMapping{Protocol: spec.UDP, HostIP: nodeIP4, HostPort: 8080, ContainerPort: 80},
		spec.PortMapping{Protocol: spec.TCP, HostIP: "127.0.0.1", HostPort: 8080, ContainerPort: 80}) // no conflict
	before := snapshot(node)
	fresh := newNS(t, "pod")
	tcp := func(ip string, port uint16) spec.PortMapping {
		return spec.PortMapping{Protocol: spec.TCP, HostIP: ip, HostPort: port, ContainerPort: 80}
	}
	good := tcp("", 9090)
	for name, c := range map[string]struct {
		r    spec.NetworkRequest
		kind error
		text string
	}{
		"conflict with a pod":      {request(fresh, good, tcp("", 8080)), errdefs.ErrAlreadyExists, "in use by sandbox"},
		"conflict, same IP":        {request(fresh, tcp(nodeIP4, 8080)), errdefs.ErrAlreadyExists, first.id},
		"a node's TCP listener":    {request(fresh, good, tcp("", 7777)), errdefs.ErrAlreadyExists, fmt.Sprintf("process %d (", os.Getpid())},
		"a node's UDP listener":    {request(fresh, spec.PortMapping{Protocol: spec.UDP, HostPort: 7778, ContainerPort: 1}), errdefs.ErrAlreadyExists, fmt.Sprintf("process %d (", os.Getpid())},
		"SCTP without the kernel":  {request(fresh, spec.PortMapping{Protocol: spec.SCTP, HostPort: 99, ContainerPort: 1}), errdefs.ErrFailedPrecondition, "SCTP"},
		"bad host IP":              {request(fresh, tcp("localhost", 1)), errdefs.ErrInvalidArgument, `"localhost"`},
		"::1":                      {request(fresh, tcp("::1", 1)), errdefs.ErrInvalidArgument, "::1"},
		"connected already":        {spec.NetworkRequest{SandboxID: first.id, Netns: fresh.path}, errdefs.ErrAlreadyExists, first.id},
		"no id":                    {spec.NetworkRequest{Netns: fresh.path}, errdefs.ErrInvalidArgument, "id"},
		"no namespace":             {spec.NetworkRequest{SandboxID: newID()}, errdefs.ErrFailedPrecondition, n.cfg.NetnsDir},
		"the node's own namespace": {spec.NetworkRequest{SandboxID: newID(), Netns: node.path}, errdefs.ErrFailedPrecondition, "own"},
		"another kind":             {spec.NetworkRequest{SandboxID: newID(), Netns: "/proc/self/ns/uts"}, errdefs.ErrFailedPrecondition, "not a network namespace"},
		"a pin never mounted":      {spec.NetworkRequest{SandboxID: newID(), Netns: "/proc/self/comm"}, errdefs.ErrFailedPrecondition, "not a network namespace"},
		"eth0 is there":            {spec.NetworkRequest{SandboxID: newID(), Netns: first.path}, errdefs.ErrAlreadyExists, "eth0"},
	} {
		_, err := n.Add(t.Context(), c.r)
		if !errors.Is(err, c.kind) || err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %v with %q", name, err, c.kind, c.text)
		}
	}
	same(t, before, snapshot(node))
}

func TestNodeKeepsOutOfHostPorts(t *testing.T) {
	node, _ := newNode(t)
	n := start(t, node, config(t), nil, nil)
	p := addPod(t, n, spec.PortMapping{Protocol: spec.TCP, HostPort: 8080, ContainerPort: 80})
	listen := func() (err error) {
		node.run(func() {
			var l net.Listener
			if l, err = net.Listen("tcp4", ":8080"); err == nil {
				l.Close()
			}
		})
		return err
	}
	if err := listen(); err == nil {
		t.Error("a process of the node could listen on a pod's host port")
	}
	if err := n.Remove(t.Context(), p.id, nil); err != nil {
		t.Fatal(err)
	}
	if err := listen(); err != nil {
		t.Errorf("the host port is still held: %v", err)
	}
}

func TestAddressesRunOut(t *testing.T) {
	node, _ := newNode(t)
	n := start(t, node, config(t, "10.88.0.0/29", "fd00:88::/64"), nil, nil) // the gateway and five pods
	var pods []*testPod
	for range 5 {
		pods = append(pods, addPod(t, n))
	}
	before := snapshot(node)
	if _, err := n.Add(t.Context(), request(newNS(t, "pod"))); !errdefs.IsResourceExhausted(err) || !strings.Contains(err.Error(), "10.88.0.0/29") {
		t.Errorf("sixth pod: %v", err)
	}
	same(t, before, snapshot(node))
	if got := n.pools[false].Used(); got != 5 {
		t.Errorf("%d IPv6 addresses are in use, want 5", got)
	}
	if err := n.Remove(t.Context(), pods[2].id, nil); err != nil {
		t.Fatal(err)
	}
	if p := addPod(t, n); p.v4 != pods[2].v4 {
		t.Errorf("got %s, want the one that was given back, %s", p.v4, pods[2].v4)
	}
}

func TestPodWithoutIPv6(t *testing.T) {
	node, outside := newNode(t)
	n := start(t, node, config(t), nil, nil)
	outside.serve("tcp", ":9000")
	ns := newNS(t, "pod")
	ns.run(func() { must(setSysctls([]sysctl{{"ipv6/conf/all/disable_ipv6", "1"}})) })
	r, err := n.Add(t.Context(), request(ns, spec.PortMapping{Protocol: spec.TCP, HostPort: 80, ContainerPort: 80}))
	if err != nil || len(r.Addresses) != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	ns.reach("tcp", join(outsideIP4, 9000), nodeIP4)
	if n.pools[false].Used() != 0 {
		t.Error("an IPv6 address is in use")
	}
}

func TestSingleFamily(t *testing.T) {
	for _, c := range []struct{ subnet, outside, seen string }{
		{"10.88.0.0/24", outsideIP4, nodeIP4}, {"fd00:88::/64", outsideIP6, nodeIP6},
	} {
		node, outside := newNode(t)
		n := start(t, node, config(t, c.subnet), nil, nil)
		outside.serve("tcp", ":9000")
		p := addPod(t, n, spec.PortMapping{Protocol: spec.TCP, HostPort: 8080, ContainerPort: 80})
		p.serve("tcp", ":80")
		p.reach("tcp", join(c.outside, 9000), c.seen)
		outside.reach("tcp", join(c.seen, 8080), c.outside)
		if err := n.Remove(t.Context(), p.id, nil); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFiftyAtOnce(t *testing.T) {
	node, _ := newNode(t)
	cfg := config(t)
	n := start(t, node, cfg, nil, nil)
	before := snapshot(node)
	const count = 50
	namespaces := make([]*ns, count)
	for i := range namespaces {
		namespaces[i] = newNS(t, "pod")
	}
	requests := make([]spec.NetworkRequest, count)
	live := map[string]spec.NetworkResult{}
	var mu sync.Mutex
	parallel(count, func(i int) {
		requests[i] = request(namespaces[i], spec.PortMapping{Protocol: spec.TCP, HostPort: uint16(20000 + i), ContainerPort: 80})
		r, err := n.Add(context.Background(), requests[i])
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		live[requests[i].SandboxID] = r
		mu.Unlock()
	})
	seen := map[string]bool{}
	for _, r := range live {
		for _, a := range r.Addresses {
			if seen[a.IP] {
				t.Errorf("%s was given twice", a.IP)
			}
			seen[a.IP] = true
		}
	}
	if l := leaks(t, node, cfg, live); l != nil {
		t.Errorf("leaks: %q", l)
	}
	for i := range namespaces {
		namespaces[i].serve("tcp", ":80")
		node.reach("tcp", fmt.Sprintf("127.0.0.1:%d", 20000+i), "10.88.0.1")
	}
	// Others come while these go.
	fresh := make([]*ns, 10)
	for i := range fresh {
		fresh[i] = newNS(t, "pod")
	}
	parallel(count+len(fresh), func(i int) {
		var err error
		if i < count {
			err = n.Remove(context.Background(), requests[i].SandboxID, nil)
		} else {
			r := request(fresh[i-count])
			if _, err = n.Add(context.Background(), r); err == nil {
				err = n.Remove(context.Background(), r.SandboxID, nil)
			}
		}
		if err != nil {
			t.Error(err)
		}
	})
	same(t, before, snapshot(node))
	if len(n.pods)+n.pools[true].Used()+n.pools[false].Used() != 0 {
		t.Errorf("memory still holds %v", slices.Collect(maps.Keys(n.pods)))
	}
}

func parallel(count int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range count {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

func TestUDPFlowsAreForgotten(t *testing.T) {
	node, outside := newNode(t)
	n := start(t, node, config(t), nil, nil)
	m := spec.PortMapping{Protocol: spec.UDP, HostPort: 5353, ContainerPort: 53}
	// One client socket throughout: its flow never ends by itself.
	var c net.Conn
	var err error
	outside.run(func() { c, err = net.Dial("udp", join(nodeIP4, 5353)) })
	must(err)
	defer c.Close()
	answers := func() bool {
		for range 20 { // the flow is forgotten soon, not at once; without that it never would be
			c.Write([]byte("?"))
			c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
			if _, err := c.Read(make([]byte, 64)); err == nil {
				return true
			}
		}
		return false
	}
	if answers() {
		t.Fatal("somebody answers without a pod")
	}
	for i := range 2 {
		p := addPod(t, n, m)
		p.serve("udp", ":53")
		if !answers() {
			t.Errorf("pod %d is not reached by a client that was there before it\n%s", i, node.sh("cat", "/proc/net/nf_conntrack"))
		}
		if err := n.Remove(t.Context(), p.id, nil); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCommandsOfTheSnapshot(t *testing.T) {
	for _, c := range []string{"ip", "nft", "ss"} {
		if _, err := exec.LookPath(c); err != nil {
			t.Errorf("the tests need %s: install iproute2 and nftables", c)
		}
	}
}

// TestLeaksBeforeTheFirstPod: a node that no daemon has touched has no tables to look into, and no leak.
func TestLeaksBeforeTheFirstPod(t *testing.T) {
	node, _ := newNode(t)
	cfg := config(t)
	node.run(func() {
		if got, err := Leaks(t.Context(), cfg, nil); err != nil || len(got) > 0 {
			t.Errorf("%v, %v", got, err)
		}
	})
}
