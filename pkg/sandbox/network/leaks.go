package network

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/runtimed/runtimed/pkg/sandbox/network/address"
	"github.com/runtimed/runtimed/pkg/sandbox/network/ruleset"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Leaks names what is this daemon's and belongs to no sandbox of live, one line each: host ends of links, nftables
// elements, and addresses that a live record claims twice or outside of the subnets. It
// reads the kernel, in the network namespace of the calling thread, and so works without a daemon.
func Leaks(ctx context.Context, cfg Config, live map[string]spec.NetworkResult) ([]string, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	own, err := netns.Get()
	if err != nil {
		return nil, err
	}
	defer own.Close()
	n := &Network{cfg: cfg, handles: handlePool{ns: own}, nft: transactor{ns: own}, rules: ruleset.New(cfg.rules())}
	defer n.handles.close()
	defer n.nft.close()
	links, err := n.ownLinks()
	if err != nil {
		return nil, err
	}
	owners := map[string]string{}
	for id := range live {
		owners[cfg.VethName(id)] = id
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(links)) {
		if owners[name] == "" {
			out = append(out, fmt.Sprintf("link %s on bridge %s is of no sandbox", name, cfg.Bridge))
		}
	}
	elements, err := n.leakedElements(live)
	if err != nil {
		return nil, err
	}
	addresses := leakedAddresses(cfg, live)
	strays, err := n.strayAddresses()
	return append(append(append(out, elements...), addresses...), strays...), err
}

func (n *Network) leakedElements(live map[string]spec.NetworkResult) ([]string, error) {
	n.nft.mu.Lock()
	defer n.nft.mu.Unlock()
	found, err := n.nft.elements(n.rules, func(owner string) bool { _, ok := live[owner]; return !ok })
	if err != nil {
		return nil, err
	}
	type place struct{ set, owner string }
	count := map[place]int{}
	for s, es := range found {
		for _, e := range es {
			count[place{tableLabel(s) + " " + s.Name, e.Comment}]++
		}
	}
	var out []string
	for p, k := range count {
		out = append(out, fmt.Sprintf("nftables set %s holds %d elements of sandbox %q, which is not recorded", p.set, k, p.owner))
	}
	slices.Sort(out)
	return out, nil
}

func tableLabel(s *nftables.Set) string {
	if s.Table.Family == nftables.TableFamilyBridge {
		return "bridge " + s.Table.Name
	}
	return "inet " + s.Table.Name
}

// leakedAddresses asks the records: an address is taken by being recorded.
func leakedAddresses(cfg Config, live map[string]spec.NetworkResult) []string {
	pools := map[bool]*address.Pool{}
	for _, s := range cfg.Subnets {
		pools[s.Prefix.Addr().Is4()] = address.NewPool(s)
	}
	var out []string
	for _, id := range slices.Sorted(maps.Keys(live)) {
		r := live[id]
		_, addrs := lastOf(&r)
		for _, ip := range addrs {
			p := pools[ip.Is4()]
			if p == nil {
				out = append(out, fmt.Sprintf("address %s of sandbox %s is of a family without a subnet", ip, id))
			} else if err := p.Claim(ip, id); err != nil {
				out = append(out, fmt.Sprintf("sandbox %s: %s", id, err))
			}
		}
	}
	return out
}

// strayAddresses finds addresses of the subnets on links of the node that are not the bridge.
func (n *Network) strayAddresses() (out []string, err error) {
	err = n.handles.use(func(h *netlink.Handle) error {
		addrs, err := h.AddrList(nil, netlink.FAMILY_ALL)
		if err != nil {
			return err
		}
		for _, a := range addrs {
			l, err := h.LinkByIndex(a.LinkIndex)
			if err != nil || l.Attrs().Name == n.cfg.Bridge {
				continue
			}
			for _, s := range n.cfg.Subnets {
				if ipNet(s.Prefix.Addr(), s.Prefix.Bits()).Contains(a.IP) {
					out = append(out, fmt.Sprintf("address %s of subnet %s is on link %s of the node", a.IP, s.Prefix, l.Attrs().Name))
				}
			}
		}
		return nil
	})
	return out, err
}
