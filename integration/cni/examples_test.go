package cni

import (
	"fmt"
	"strings"
	"testing"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/integration/daemontest"
)

// TestExampleVXLAN: two nodes as docs/cni.md makes them; a pod of the one reaches a pod of the other by its own address.
func TestExampleVXLAN(t *testing.T) {
	blocks := example(t, "vxlan")
	sh(t, "", `ip netns add node1; ip netns add node2
		ip link add wire netns node1 type veth peer name wire netns node2
		for n in 1 2; do ip -n node$n link set lo up; ip -n node$n addr add 192.0.2.$n/24 dev wire; ip -n node$n link set wire up; done`)
	t.Cleanup(func() { sh(t, "", "ip netns del node1; ip netns del node2") })
	var nodes []*node
	for n := 1; n <= 2; n++ {
		other := 3 - n
		name := fmt.Sprintf("node%d", n)
		d := start(t, options{netns: name, plugins: current(t), files: map[string]string{"10-flannel.conflist": blocks["10-flannel.conflist"]}})
		d.ready()
		_, err := d.Conn().Runtime.UpdateRuntimeConfig(daemontest.Ctx(t), &v1.UpdateRuntimeConfigRequest{
			RuntimeConfig: &v1.RuntimeConfig{NetworkConfig: &v1.NetworkConfig{PodCidr: fmt.Sprintf("10.244.%d.0/24", n)}}})
		if err != nil {
			t.Fatal(err)
		}
		sh(t, name, blocks["node.sh"], fmt.Sprintf("NODE=192.0.2.%d", n), fmt.Sprintf("N=%d", n), fmt.Sprintf("MAC=0a:00:00:00:00:%02d", n),
			fmt.Sprintf("PEER=192.0.2.%d", other), fmt.Sprintf("PEER_N=%d", other), fmt.Sprintf("PEER_MAC=0a:00:00:00:00:%02d", other))
		d.Pull()
		nodes = append(nodes, d)
	}
	server, _ := nodes[1].pod("server", "while :; do nc -l -p 80 -e sh -c 'netstat -tn | grep :80'; done", nil)
	client, ctr := nodes[0].pod("client", daemontest.Sleep, nil)
	from, to := nodes[0].address(client), nodes[1].address(server)
	if !strings.HasPrefix(from, "10.244.1.") || !strings.HasPrefix(to, "10.244.2.") {
		t.Fatalf("the client is %s, the server %s", from, to)
	}
	seen := nodes[0].Exec(ctr, "until nc -w 5 "+to+" 80 </dev/null; do sleep 0.1; done")
	if !strings.Contains(seen, from+":") {
		t.Errorf("the server at %s is reached from another address than the client's, %s: %s", to, from, seen)
	}
	if out := sh(t, "node1", "cat /proc/net/dev | grep flannel.1"); strings.Fields(out)[1] == "0" {
		t.Errorf("nothing came by VXLAN: %s", out)
	}
	for _, n := range nodes {
		n.RemoveAll()
	}
	for _, n := range nodes {
		n.nothingLeft()
	}
}

// TestExamplePolicy: nothing reaches a pod but what is allowed; the isolation is there with the pod, and goes with it.
func TestExamplePolicy(t *testing.T) {
	blocks := example(t, "policy")
	d := start(t, options{plugins: debian, files: map[string]string{
		"10-isolated.conflist": blocks["10-isolated.conflist"], "isolate": blocks["isolate"]}})
	nft := d.put("policy.nft", blocks["policy.nft"])
	sh(t, "", "nft -f "+nft)
	t.Cleanup(func() { sh(t, "", "nft delete table inet isolation") })
	d.ready()
	d.Pull()
	pod, _ := d.pod("server", web, nil)
	server := d.address(pod)
	pod, friend := d.pod("friend", daemontest.Sleep, nil)
	client := d.address(pod)
	_, stranger := d.pod("stranger", daemontest.Sleep, nil)

	daemontest.Eventually(t, daemontest.Patience, func() error { // the node reaches it, so it serves
		if out := d.Run("busybox", "wget", "-qO-", "http://"+server+"/hostname"); out.Stdout != "server" {
			return fmt.Errorf("%+v", out)
		}
		return nil
	})
	const ask = "timeout %d wget -qO- http://%s/hostname 2>/dev/null || echo no"
	if got := d.Exec(friend, fmt.Sprintf(ask, 2, server)); got != "no" {
		t.Errorf("before it is allowed: %q", got)
	}
	sh(t, "", blocks["allow.sh"], "CLIENT="+client, "SERVER="+server)
	if got := d.Exec(friend, fmt.Sprintf(ask, 30, server)); got != "server" {
		t.Errorf("once it is allowed: %q", got)
	}
	if got := d.Exec(stranger, fmt.Sprintf(ask, 2, server)); got != "no" {
		t.Errorf("a stranger: %q", got)
	}
	if out := d.CLI("doctor"); strings.Contains(out.Stdout, "not connected") {
		t.Errorf("doctor: %s", out.Stdout)
	}
	sh(t, "", "nft delete element inet isolation isolated '{ "+client+" }'")
	if out := d.CLI("doctor"); !strings.Contains(out.Stdout, "a pod is not connected as its plugins left it") {
		t.Errorf("doctor does not find a pod that is not isolated any more: %s", out.Stdout)
	}
	d.RemoveAll()
	if out := sh(t, "", "nft list set inet isolation isolated"); strings.Contains(out, "elements") {
		t.Errorf("isolated are still %s", out)
	}
	d.nothingLeft()
}
