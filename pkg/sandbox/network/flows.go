package network

import (
	"net/netip"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// forgetFlows deletes conntrack's UDP flows to the host ports or from the addresses. A UDP client that sends without a
// pause keeps its flow alive, and so would never reach a pod that came, or keep on sending to one that left. TCP needs
// none of it. Without UDP host ports there is nothing to do: reading a large conntrack table takes its time.
func (n *Network) forgetFlows(ports []hostPort, addrs []netip.Addr) error {
	for _, v4 := range []bool{true, false} {
		f := &udpFlows{addrs: addrs}
		for _, p := range ports {
			if p.proto == spec.UDP && p.v4 == v4 {
				f.ports = append(f.ports, p)
			}
		}
		if len(f.ports) == 0 {
			continue
		}
		fam := netlink.InetFamily(unix.AF_INET)
		if !v4 {
			fam = unix.AF_INET6
		}
		h, err := netlink.NewHandleAt(n.own, unix.NETLINK_NETFILTER)
		if err != nil {
			return spec.Errorf(errdefs.ErrUnavailable, "conntrack socket: %w", err)
		}
		_, err = h.ConntrackDeleteFilters(netlink.ConntrackTable, fam, f)
		h.Close()
		if err != nil {
			// The flows time out by themselves; a busy table is no reason to fail a pod.
			n.log.Warn("conntrack flows of host ports were not deleted", "error", err)
		}
	}
	return nil
}

type udpFlows struct {
	ports []hostPort
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
	return slices.ContainsFunc(u.ports, func(p hostPort) bool {
		return p.port == f.Forward.DstPort && (!p.host.IsValid() || p.host == to.Unmap())
	})
}
