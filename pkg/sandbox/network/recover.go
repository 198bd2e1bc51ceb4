package network

import (
	"context"
	"maps"
	"net/netip"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"github.com/runtimed/runtimed/pkg/sandbox/network/ruleset"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Recover takes over the recorded sandboxes and removes links and elements of all others that are this daemon's. It is
// called once, before the first Add. A record whose link is gone has no network any more: it holds neither address nor
// host port. What cannot be taken over is logged, and is no reason to fail: the daemon must start. After an error it
// may be called again.
func (n *Network) Recover(ctx context.Context, live map[string]spec.NetworkResult) error {
	links, err := n.ownLinks()
	if err != nil {
		return err
	}
	names := map[string]bool{}
	n.mu.Lock()
	for _, id := range slices.Sorted(maps.Keys(live)) {
		name := n.cfg.VethName(id)
		names[name] = true
		if _, there := links[name]; there && n.pods[id] == nil {
			n.adopt(id, live[id])
		}
	}
	n.mu.Unlock()
	if err := n.holdAgain(); err != nil {
		return err
	}
	for name := range links {
		if !names[name] {
			n.log.Info("removing the link of a sandbox that is not recorded", "link", name)
			if err := n.deleteLink(ctx, name); err != nil {
				return err
			}
		}
	}
	if _, err := n.ensureBridge(); err != nil {
		return err
	}
	err = n.handles.use(func(h *netlink.Handle) error {
		n.bridgeMu.Lock()
		defer n.bridgeMu.Unlock()
		return n.attachAll(h, n.bridge)
	})
	if err != nil {
		return err
	}
	if err := n.rebuild(); err != nil {
		return err
	}
	if err := n.watch(); err != nil {
		return err
	}
	n.mu.Lock()
	n.recovered = true
	n.mu.Unlock()
	n.fault("NetworkNotRecovered", nil)
	return nil
}

// adopt takes over one record. The caller holds mu.
func (n *Network) adopt(id string, r spec.NetworkResult) {
	p := &pod{id: id, rules: true, put: true}
	for _, a := range r.Addresses {
		ip, err := netip.ParseAddr(a.IP)
		if err == nil && n.pools[ip.Is4()] == nil {
			err = spec.Preconditionf("no subnet of its family is configured any more")
		}
		if err == nil {
			err = n.pools[ip.Is4()].Claim(ip, id)
		}
		if err != nil {
			n.log.Warn("address of a recorded sandbox is not taken over", "sandbox", id, "address", a.IP, "error", err)
			continue
		}
		p.addrs = append(p.addrs, ip)
	}
	if len(p.addrs) == 0 {
		return
	}
	_, v4 := p.addr(true)
	_, v6 := p.addr(false)
	ports, err := ruleset.ResolvePorts(r.Ports, v4, v6)
	if err == nil {
		err = portConflict(id, ports, n.pods)
	}
	if err != nil {
		n.log.Warn("host ports of a recorded sandbox are not taken over", "sandbox", id, "error", err)
		ports = nil
	}
	p.ports = ports
	n.pods[id] = p
}

// holdAgain takes the taken-over pods' host ports in hand. It runs before the first Add, and without mu: to name who
// came meanwhile takes its time.
func (n *Network) holdAgain() error {
	n.mu.Lock()
	pods := slices.Collect(maps.Values(n.pods))
	n.mu.Unlock()
	return inNetns(int(n.own), int(n.own), func() error {
		for _, p := range pods {
			if len(p.held) > 0 {
				continue
			}
			var held []int
			for _, h := range p.ports {
				fd, err := holdPort(h)
				if err != nil {
					// The pod was there first and keeps the port; who came meanwhile does not get its packets.
					n.log.Warn("host port of a recorded sandbox was taken while no daemon ran", "sandbox", p.id, "error", err)
					continue
				}
				held = append(held, fd)
			}
			n.mu.Lock()
			p.held = held
			n.mu.Unlock()
		}
		return nil
	})
}

// ownLinks lists this daemon's host ends, by name.
func (n *Network) ownLinks() (map[string]netlink.Link, error) {
	out := map[string]netlink.Link{}
	err := n.handles.use(func(h *netlink.Handle) error {
		all, err := h.LinkList()
		if err != nil {
			return spec.Errorf(errdefs.ErrUnavailable, "list links: %w", err)
		}
		bridge := 0
		for _, l := range all {
			if l.Attrs().Name == n.cfg.Bridge {
				bridge = l.Attrs().Index
			}
		}
		for _, l := range all {
			if n.cfg.owns(l, bridge) {
				out[l.Attrs().Name] = l
			}
		}
		return nil
	})
	return out, err
}

// owns: a veth with one of our names, on our bridge or on none.
func (c Config) owns(l netlink.Link, bridge int) bool {
	a := l.Attrs()
	return l.Type() == "veth" && ownVeth.MatchString(a.Name) && a.Name[:5] == c.vethPrefix() &&
		(a.MasterIndex == 0 || a.MasterIndex == bridge)
}

// Destroy takes bridge and tables away, for a machine that shall be as before. It is refused while a pod is connected.
// Forwarding stays on: others may rely on it by now.
func (n *Network) Destroy(ctx context.Context) error {
	n.mu.Lock()
	pods := len(n.pods)
	if pods == 0 {
		n.recovered = false // nothing is added, and the watcher repairs nothing, until the next Recover
		n.faults["NetworkNotRecovered"] = errNotRecovered
	}
	n.mu.Unlock()
	if pods > 0 {
		return spec.Preconditionf("%d sandboxes are connected to bridge %s; remove them first", pods, n.cfg.Bridge)
	}
	n.bridgeMu.Lock()
	n.bridge = 0
	n.bridgeMu.Unlock()
	n.nft.mu.Lock()
	err := n.nft.batch(func(c *nftables.Conn) error { n.rules.Delete(c); return nil })
	n.nft.mu.Unlock()
	if err != nil {
		return spec.Errorf(errdefs.ErrUnavailable, "nftables table %q: %w", n.cfg.Table, err)
	}
	return n.deleteLink(ctx, n.cfg.Bridge)
}
