package network

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"

	"github.com/runtimed/runtimed/pkg/sandbox/network/xtables"
)

// Finding is something about the node that keeps this network from working, for a person.
type Finding struct{ What, Why, Fix string }

// Check looks at the node for what would keep pods from being reached: it changes nothing, and finds nothing on a node
// that is ready. What it cannot read is a finding too. It works on the network namespace of the calling thread.
func Check(ctx context.Context, cfg Config) []Finding {
	if err := cfg.Validate(); err != nil {
		return []Finding{{What: "the network's configuration is invalid", Why: err.Error(), Fix: "correct it"}}
	}
	var out []Finding
	for _, f := range []func(Config) []Finding{checkBridge, checkForwarding, checkSubnets, checkNftables, checkLegacy} {
		if ctx.Err() != nil {
			break
		}
		out = append(out, f(cfg)...)
	}
	return out
}

func unreadable(what string, err error) []Finding {
	return []Finding{{What: what + " could not be read", Why: err.Error(), Fix: "run as root, on a kernel with this feature"}}
}

func checkBridge(cfg Config) []Finding {
	l, err := netlink.LinkByName(cfg.Bridge)
	if isNotExist(err) {
		return nil // it is made with the first pod
	}
	if err != nil {
		return unreadable("link "+cfg.Bridge, err)
	}
	if l.Type() != "bridge" {
		return []Finding{{What: "the link " + cfg.Bridge + " is no bridge",
			Why: "it is a " + l.Type() + ", so pods cannot be attached to it", Fix: "choose another bridge name"}}
	}
	addrs, err := netlink.AddrList(l, netlink.FAMILY_ALL)
	if err != nil {
		return unreadable("addresses of "+cfg.Bridge, err)
	}
	var out []Finding
	for _, a := range addrs {
		ip, ok := netip.AddrFromSlice(a.IP)
		if ip = ip.Unmap(); !ok || ip.IsLinkLocalUnicast() {
			continue
		}
		if s := cfg.subnet(ip.Is4()); s == nil || s.Router() != ip {
			out = append(out, Finding{What: fmt.Sprintf("bridge %s has address %s", cfg.Bridge, a.IPNet),
				Why: "it is none of the configured gateways: the bridge is somebody else's, or the subnet was changed",
				Fix: fmt.Sprintf("choose another bridge name, or run: ip addr del %s dev %s", a.IPNet, cfg.Bridge)})
		}
	}
	return out
}

func checkForwarding(cfg Config) []Finding {
	var out []Finding
	for _, s := range []struct {
		key  string
		want bool
	}{{"net/ipv4/ip_forward", cfg.subnet(true) != nil}, {"net/ipv6/conf/all/forwarding", cfg.hasIPv6()}} {
		if !s.want {
			continue
		}
		name := strings.ReplaceAll(s.key, "/", ".")
		b, err := os.ReadFile("/proc/sys/" + s.key)
		if err != nil {
			out = append(out, unreadable(name, err)...)
		} else if strings.TrimSpace(string(b)) == "0" {
			out = append(out, Finding{What: name + " is off", Why: "pods reach nothing beyond the node; the daemon turns it on when it starts, so it does not run or something turned it off again",
				Fix: "sysctl -w " + name + "=1, and look in /etc/sysctl.d for what sets it to 0"})
		}
	}
	return out
}

// checkSubnets finds routes of other links that overlap a pod subnet.
func checkSubnets(cfg Config) []Finding {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return unreadable("routes", err)
	}
	var out []Finding
	for _, r := range routes {
		p, ok := routePrefix(r)
		if !ok {
			continue
		}
		l, err := netlink.LinkByIndex(r.LinkIndex)
		if err != nil || l.Attrs().Name == cfg.Bridge {
			continue
		}
		for _, s := range cfg.Subnets {
			if p.Overlaps(s.Prefix) {
				out = append(out, Finding{What: fmt.Sprintf("subnet %s overlaps the route to %s by %s", s.Prefix, p, l.Attrs().Name),
					Why: "addresses in both are reached by only one of them", Fix: "choose another subnet"})
			}
		}
	}
	return out
}

func routePrefix(r netlink.Route) (netip.Prefix, bool) {
	if r.Dst == nil || r.LinkIndex == 0 {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(r.Dst.IP)
	bits, _ := r.Dst.Mask.Size()
	if a = a.Unmap(); !ok || bits == 0 || a.IsLinkLocalUnicast() || a.IsMulticast() {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a, bits), true
}

// checkNftables finds base chains on the forward hook that drop what no rule accepts, unless a rule of their table
// names the bridge and accepts. iptables-nft's FORWARD chain is one of them.
func checkNftables(cfg Config) []Finding {
	c, err := nftables.New()
	if err != nil {
		return unreadable("nftables", err)
	}
	chains, err := c.ListChains()
	if err != nil {
		return unreadable("nftables", err)
	}
	var out []Finding
	for _, ch := range chains {
		if !dropsForwarded(ch, cfg) {
			continue
		}
		ok, err := acceptsBridge(c, chains, ch.Table, cfg.Bridge)
		if err != nil {
			out = append(out, unreadable("nftables table "+ch.Table.Name, err)...)
		} else if !ok {
			out = append(out, firewallFinding(ch, cfg))
		}
	}
	return out
}

func dropsForwarded(ch *nftables.Chain, cfg Config) bool {
	if ch.Hooknum == nil || *ch.Hooknum != *nftables.ChainHookForward || ch.Policy == nil || *ch.Policy != nftables.ChainPolicyDrop {
		return false
	}
	switch ch.Table.Family {
	case nftables.TableFamilyINet:
		return true
	case nftables.TableFamilyIPv4:
		return cfg.subnet(true) != nil
	case nftables.TableFamilyIPv6:
		return cfg.hasIPv6()
	default:
		return false
	}
}

func firewallFinding(ch *nftables.Chain, cfg Config) Finding {
	f := Finding{
		What: fmt.Sprintf("the host's firewall drops forwarded packets (nftables table %s, chain %s)", ch.Table.Name, ch.Name),
		Why:  "its policy is drop and no rule of it accepts bridge " + cfg.Bridge + ": pods reach nothing beyond the node, and host ports are not reached from outside",
		Fix: fmt.Sprintf("nft insert rule %s %s %s iifname %q accept; nft insert rule %[1]s %[2]s %[3]s oifname %[4]q accept",
			familyName(ch.Table.Family), ch.Table.Name, ch.Name, cfg.Bridge),
	}
	if ch.Table.Name == "filter" && ch.Name == "FORWARD" {
		f.Fix = legacyFix(ch.Table.Family == nftables.TableFamilyIPv4, cfg.Bridge)
	}
	return f
}

func legacyFix(v4 bool, bridge string) string {
	cmd := "iptables"
	if !v4 {
		cmd = "ip6tables"
	}
	return fmt.Sprintf("%s -I FORWARD -i %s -j ACCEPT; %[1]s -I FORWARD -o %[2]s -j ACCEPT", cmd, bridge)
}

func familyName(f nftables.TableFamily) string {
	switch f {
	case nftables.TableFamilyIPv4:
		return "ip"
	case nftables.TableFamilyIPv6:
		return "ip6"
	default:
		return "inet"
	}
}

// acceptsBridge looks for a rule of the table that compares with the bridge's name and accepts.
func acceptsBridge(c *nftables.Conn, chains []*nftables.Chain, t *nftables.Table, bridge string) (bool, error) {
	for _, ch := range chains {
		if ch.Table.Name != t.Name || ch.Table.Family != t.Family {
			continue
		}
		rules, err := c.GetRules(ch.Table, ch)
		if err != nil {
			return false, err
		}
		for _, r := range rules {
			named, accepted := false, false
			for _, e := range r.Exprs {
				switch e := e.(type) {
				case *expr.Cmp:
					named = named || string(bytes.TrimRight(e.Data, "\x00")) == bridge
				case *expr.Verdict:
					accepted = accepted || e.Kind == expr.VerdictAccept
				}
			}
			if named && accepted {
				return true, nil
			}
		}
	}
	return false, nil
}

// warnOfFirewall says in the log what Check finds, without delaying the pod.
func (n *Network) warnOfFirewall() {
	n.wait.Go(func() {
		var found []Finding
		err := inNetns(int(n.own), int(n.own), func() error {
			found = Check(n.ctx, n.cfg)
			return nil
		})
		if err != nil {
			n.log.Warn("the host's firewall could not be looked at", "error", err)
		}
		for _, f := range found {
			n.log.Warn(f.What, "why", f.Why, "fix", f.Fix)
		}
	})
}

// checkLegacy looks at the FORWARD chain of the iptables of old, which nftables does not show.
func checkLegacy(cfg Config) []Finding {
	var out []Finding
	for _, v4 := range []bool{true, false} {
		if cfg.subnet(v4) == nil {
			continue
		}
		drops, err := xtables.ForwardDrops(v4, cfg.Bridge)
		if err != nil {
			out = append(out, unreadable("iptables' filter table", err)...)
		} else if drops {
			out = append(out, Finding{What: "the host's firewall drops forwarded packets (iptables-legacy, chain FORWARD)",
				Why: "its policy is DROP and no rule of it accepts bridge " + cfg.Bridge + ": pods reach nothing beyond the node, and host ports are not reached from outside",
				Fix: legacyFix(v4, cfg.Bridge)})
		}
	}
	return out
}
