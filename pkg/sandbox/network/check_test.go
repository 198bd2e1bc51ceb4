package network

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func check(t *testing.T, node *ns, cfg Config) []Finding {
	t.Helper()
	var out []Finding
	node.run(func() { out = Check(t.Context(), cfg) })
	return out
}

func TestCheckFindsNothingOnAReadyNode(t *testing.T) {
	node, _ := newNode(t)
	cfg := config(t)
	n := start(t, node, cfg, nil, nil)
	addPod(t, n, somePorts...)
	if f := check(t, node, cfg); f != nil {
		t.Errorf("findings: %+v", f)
	}
}

func TestCheckNamesWhatIsInTheWay(t *testing.T) {
	for name, c := range map[string]struct {
		do   []string // each is a command of its own
		what string
		undo []string // makes it go away
	}{
		"nftables firewall": {[]string{"nft add table inet fw", "nft add chain inet fw forward { type filter hook forward priority 0; policy drop; }"},
			"table fw, chain forward", []string{"FIX"}},
		"IPv4 firewall":    {[]string{"nft add table ip fw", "nft add chain ip fw f { type filter hook forward priority 0; policy drop; }"}, "table fw, chain f)", []string{"FIX"}},
		"iptables-nft":     {[]string{"iptables-nft -P FORWARD DROP"}, "table filter, chain FORWARD", []string{"FIX"}},
		"ip6tables-nft":    {[]string{"ip6tables-nft -P FORWARD DROP"}, "table filter, chain FORWARD", []string{"FIX"}},
		"iptables-legacy":  {[]string{"iptables-legacy -P FORWARD DROP"}, "iptables-legacy, chain FORWARD", []string{"iptables-legacy -I FORWARD -i rtbr0 -j ACCEPT"}},
		"ip6tables-legacy": {[]string{"ip6tables-legacy -P FORWARD DROP"}, "iptables-legacy, chain FORWARD", []string{"ip6tables-legacy -P FORWARD ACCEPT"}},
		"forwarding off":   {[]string{"sysctl -qw net.ipv4.ip_forward=0"}, "net.ipv4.ip_forward is off", []string{"sysctl -qw net.ipv4.ip_forward=1"}},
		"IPv6 forwarding":  {[]string{"sysctl -qw net.ipv6.conf.all.forwarding=0"}, "net.ipv6.conf.all.forwarding is off", []string{"sysctl -qw net.ipv6.conf.all.forwarding=1"}},
		"a route":          {[]string{"ip route add 10.88.7.0/24 via " + outsideIP4}, "overlaps the route to 10.88.7.0/24 by uplink", []string{"ip route del 10.88.7.0/24"}},
		"bridge's address": {[]string{"ip addr add 172.31.0.1/24 dev rtbr0"}, "bridge rtbr0 has address 172.31.0.1/24", []string{"ip addr del 172.31.0.1/24 dev rtbr0"}},
		"no bridge": {[]string{"ip link del rtbr0", "ip link add rtbr0 type veth peer name elsewhere"}, "the link rtbr0 is no bridge",
			[]string{"ip link del rtbr0"}},
	} {
		t.Run(name, func(t *testing.T) {
			node, _ := newNode(t)
			cfg := config(t)
			start(t, node, cfg, nil, nil)
			for _, cmd := range c.do {
				if _, err := exec.LookPath(strings.Fields(cmd)[0]); err != nil {
					t.Fatalf("the tests need it: %v", err)
				}
				node.sh(strings.Fields(cmd)...)
			}
			found := check(t, node, cfg)
			if len(found) != 1 || !strings.Contains(found[0].What, c.what) || found[0].Why == "" || found[0].Fix == "" {
				t.Fatalf("findings: %+v, want one that says %q", found, c.what)
			}
			for _, cmd := range c.undo {
				if cmd == "FIX" { // the advice must be right
					cmd = strings.NewReplacer("ip6tables ", "ip6tables-nft ", "iptables ", "iptables-nft ").Replace(found[0].Fix)
				}
				node.sh("sh", "-c", cmd)
			}
			if found := check(t, node, cfg); found != nil {
				t.Errorf("after the fix: %+v", found)
			}
		})
	}
}

func TestLeaksNamesEveryKind(t *testing.T) {
	node, _ := newNode(t)
	cfg := config(t)
	n := start(t, node, cfg, nil, nil)
	p := addPod(t, n, somePorts...)
	live := map[string]spec.NetworkResult{p.id: p.result}
	if l := leaks(t, node, cfg, live); l != nil {
		t.Fatalf("leaks: %q", l)
	}
	planted := newID()
	node.sh("ip", "link", "add", cfg.VethName(planted), "type", "veth", "peer", "name", "planted")
	node.sh("ip", "addr", "add", "10.88.9.9/32", "dev", "uplink")
	node.sh("nft", `add element inet runtimed host_ports_any4 { tcp . 99 comment "`+planted+`" : 10.88.0.99 . 80 }`)
	live["twin"] = spec.NetworkResult{Addresses: []spec.Address{{IP: p.v4}, {IP: "192.0.2.77"}}}
	got := strings.Join(leaks(t, node, cfg, live), "\n")
	for _, want := range []string{
		"link " + cfg.VethName(planted), "host_ports_any4 holds 1 elements of sandbox \"" + planted,
		"address 10.88.9.9", "address " + p.v4 + " is that of sandbox", "192.0.2.77 is not one of subnet",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not named in:\n%s", want, got)
		}
	}
	if l := leaks(t, node, cfg, nil); len(l) < 6 {
		t.Errorf("without a record, the pod's own are leaks too: %q", l)
	}
	// Somebody else's link is not ours to name, nor to remove.
	node.sh("ip", "link", "add", "rtaaaaaaaaaaaaa", "type", "veth", "peer", "name", "foreign")
	if l := strings.Join(leaks(t, node, cfg, nil), "\n"); strings.Contains(l, "rtaaaaaaaaaaaaa") {
		t.Errorf("a foreign link is named: %s", l)
	}
	n.Close()
	start(t, node, cfg, nil, nil)
	if _, err := byName(node, "rtaaaaaaaaaaaaa"); err != nil {
		t.Errorf("a foreign link was removed: %v", err)
	}
	if _, err := byName(node, cfg.VethName(planted)); !isNotExist(err) {
		t.Errorf("the planted link is still there: %v", err)
	}
}
