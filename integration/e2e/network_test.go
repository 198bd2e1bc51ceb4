package e2e

import (
	"strings"
	"testing"
	"time"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/integration/daemontest"
)

// neighbour is a machine beside the node: a network namespace at the other end of a veth, which serves echo on port 7000
// and knows no way to the pods' subnet.
func neighbour(t *testing.T) {
	t.Helper()
	sh(t, `ip netns add outside
		ip link add up0 type veth peer name eth0 netns outside
		ip addr add 192.0.2.1/24 dev up0; ip addr add 2001:db8:1::1/64 dev up0 nodad; ip link set up0 up
		ip -n outside link set lo up; ip -n outside link set eth0 up
		ip -n outside addr add 192.0.2.2/24 dev eth0; ip -n outside addr add 2001:db8:1::2/64 dev eth0 nodad`)
	sh(t, "ip netns exec outside "+probe(t)+" echo 7000 >/dev/null 2>&1 & echo $! >/tmp/outside.pid; "+
		"for i in $(seq 100); do ip netns exec outside "+probe(t)+" ask tcp 127.0.0.1:7000 x && break; sleep 0.05; done")
	t.Cleanup(func() {
		sh(t, "kill $(cat /tmp/outside.pid); rm /tmp/outside.pid; ip netns del outside; ip link del up0 || true")
	})
}

// Host ports for TCP and UDP from outside, from the node's address and from 127.0.0.1; out by IPv4 and IPv6.
func TestNetwork(t *testing.T) {
	d := started(t, daemontest.Options{})
	neighbour(t)
	t.Cleanup(d.RemoveAll)
	p := d.PodConfig("server")
	p.PortMappings = []*v1.PortMapping{
		{Protocol: v1.Protocol_TCP, ContainerPort: 9000, HostPort: 8080}, {Protocol: v1.Protocol_UDP, ContainerPort: 9000, HostPort: 8080},
		{Protocol: v1.Protocol_TCP, ContainerPort: 9000, HostPort: 8081, HostIp: "192.0.2.1"},
	}
	pod := d.RunPod(p)
	id := d.RunContainer(pod, p, probing(t, d.ContainerConfig("main", "exec probe echo 9000")))
	daemontest.Eventually(t, daemontest.Patience, func() error {
		_, err := d.Conn().Runtime.ExecSync(daemontest.Ctx(t), &v1.ExecSyncRequest{ContainerId: id, Cmd: []string{"sh", "-c", "netstat -ltn | grep -q 9000"}})
		return err
	})
	for _, c := range []struct{ from, network, to, answer string }{
		{"ip netns exec outside ", "tcp", "192.0.2.1:8080", "echo hi"}, {"ip netns exec outside ", "udp", "192.0.2.1:8080", "echo hi"},
		{"ip netns exec outside ", "tcp", "[2001:db8:1::1]:8080", "echo hi"}, {"ip netns exec outside ", "udp", "[2001:db8:1::1]:8080", "echo hi"},
		{"ip netns exec outside ", "tcp", "192.0.2.1:8081", "echo hi"},
		{"", "tcp", "192.0.2.1:8080", "echo hi"}, {"", "udp", "192.0.2.1:8080", "echo hi"},
		{"", "tcp", "[2001:db8:1::1]:8080", "echo hi"}, {"", "udp", "[2001:db8:1::1]:8080", "echo hi"},
		{"", "tcp", "127.0.0.1:8080", "echo hi"}, {"", "udp", "127.0.0.1:8080", "echo hi"}, {"", "tcp", "192.0.2.1:8081", "echo hi"},
		{"", "tcp", "127.0.0.1:8081", ""}, // that port is published on another address
	} {
		out := strings.Fields(sh(t, c.from+probe(t)+" ask "+c.network+" "+c.to+" hi 2>/dev/null || true"))
		if strings.Join(out, " ") != c.answer {
			t.Errorf("%sask %s %s: %q", c.from, c.network, c.to, out)
		}
	}
	for _, to := range []string{"192.0.2.2:7000", "[2001:db8:1::2]:7000"} {
		for _, network := range []string{"tcp", "udp"} {
			if got := d.Exec(id, "probe ask "+network+" "+to+" out || true"); got != "echo out" {
				t.Errorf("out to %s %s: %q", network, to, got)
			}
		}
	}
	t.Run("pod to pod", func(t *testing.T) {
		q := d.PodConfig("client")
		other := d.RunContainer(d.RunPod(q), q, probing(t, d.ContainerConfig("main", daemontest.Sleep)))
		ip := d.Exec(id, "ip -o -4 addr show eth0 | awk '{print $4}' | cut -d/ -f1")
		if got := d.Exec(other, "probe ask tcp "+ip+":9000 pod; probe ask udp "+ip+":9000 pod"); got != "echo pod\necho pod" {
			t.Error(got)
		}
		if got := d.Exec(other, "probe ask tcp 192.0.2.1:8080 hostport || true"); got != "echo hostport" {
			t.Errorf("a pod asks another pod's host port: %q", got)
		}
	})
	t.Run("removed", func(t *testing.T) {
		within(t, 5*time.Second, "the removal", func() { d.RemovePod(pod) })
		if out := sh(t, probe(t)+" ask tcp 127.0.0.1:8080 hi 2>&1 || true"); !strings.Contains(out, "refused") {
			t.Errorf("the host port of a removed pod: %s", out)
		}
	})
}
