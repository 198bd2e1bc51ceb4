package network

import (
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/network/ruleset"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// forgetter deletes conntrack's UDP flows in the background, many pods' in one pass: a pass walks the whole table, which
// takes 10 ms even when it is empty.
type forgetter struct {
	mu      sync.Mutex
	pending []netlink.CustomConntrackFilter
	running bool
}

// forgetFlows deletes conntrack's UDP flows to the host ports or from the addresses, soon after it returns. A UDP client
// that sends without a pause keeps its flow alive, and so would never reach a pod that came, or keep on sending to one
// that left. TCP needs none of it.
func (n *Network) forgetFlows(ports []ruleset.HostPort, addrs []netip.Addr) {
	f := &udpFlows{addrs: addrs}
	for _, p := range ports {
		if p.Proto == spec.UDP {
			f.ports = append(f.ports, p)
		}
	}
	if len(f.ports) == 0 {
		return
	}
	n.flows.mu.Lock()
	defer n.flows.mu.Unlock()
	n.flows.pending = append(n.flows.pending, f)
	if !n.flows.running {
		n.flows.running = true
		n.wait.Go(n.forgetLoop)
	}
}

func (n *Network) forgetLoop() {
	for {
		select { // for others to join, and for the pod to be done: a pass delays RCU, and so links that come and go
		case <-time.After(50 * time.Millisecond):
		case <-n.ctx.Done():
		}
		n.flows.mu.Lock()
		filters := n.flows.pending
		n.flows.pending = nil
		if len(filters) == 0 {
			n.flows.running = false
			n.flows.mu.Unlock()
			return
		}
		n.flows.mu.Unlock()
		if err := n.deleteFlows(filters); err != nil {
			// They time out by themselves; a busy table is no reason to fail a pod.
			n.log.Warn("conntrack flows of host ports were not deleted", "error", err)
		}
	}
}

func (n *Network) deleteFlows(filters []netlink.CustomConntrackFilter) error {
	h, err := netlink.NewHandleAt(n.own, unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer h.Close()
	for v4, family := range map[bool]netlink.InetFamily{true: unix.AF_INET, false: unix.AF_INET6} {
		if n.cfg.subnet(v4) == nil {
			continue
		}
		_, ferr := h.ConntrackDeleteFilters(netlink.ConntrackTable, family, filters...)
		err = errors.Join(err, ferr)
	}
	return err
}

type udpFlows struct {
	ports []ruleset.HostPort
	addrs []netip.Addr
}

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (u *udpFlows) MatchConntrackFlow(f *netlink.ConntrackFlow) bool {
	if f.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	// The reply's source is the pod that the flow was redirected to.
	if from, ok := netip.AddrFromSlice(f.Reverse.SrcIP); ok && slices.Contains(u.addrs, from.Unmap()) {
		return true
	}
	to, _ := netip.AddrFromSlice(f.Forward.DstIP)
	to = to.Unmap()
	return slices.ContainsFunc(u.ports, func(p ruleset.HostPort) bool {
		return p.Port == f.Forward.DstPort && p.V4 == to.Is4() && (!p.Host.IsValid() || p.Host == to)
	})
}
