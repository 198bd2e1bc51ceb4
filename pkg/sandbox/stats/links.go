package stats

import (
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// maxLinks bounds what is told of a pod that may make links itself.
const maxLinks = 64

// Links reads the traffic of all interfaces but the loopback in the network namespace that is pinned at path. Nothing
// keeps the namespace open afterwards.
func (c *Collector) Links(path string) ([]spec.LinkUse, error) {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return nil, spec.Errorf(errdefs.ErrUnavailable, "network namespace %s: %w", path, err)
	}
	defer ns.Close()
	// The socket is made in that namespace by a thread that goes there and comes back.
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, spec.Errorf(errdefs.ErrUnavailable, "network namespace %s: %w", path, err)
	}
	defer h.Close()
	if err := h.SetSocketTimeout(time.Second); err != nil {
		return nil, spec.Errorf(errdefs.ErrUnavailable, "network namespace %s: %w", path, err)
	}
	links, err := h.LinkList()
	if err != nil {
		return nil, spec.Errorf(errdefs.ErrUnavailable, "links of %s: %w", path, err)
	}
	return linkUses(links), nil
}

// podLink is the pod's own link, as the built-in network and CNI's runtimes name it.
const podLink = "eth0"

// linkUses takes over what counts: the pod's own link first, then all others that are up. Those that are not are mostly the
// tunnels that some kernels put into every namespace.
func linkUses(links []netlink.Link) []spec.LinkUse {
	out := []spec.LinkUse{}
	own := func(l netlink.Link) bool { return l.Attrs().Name == podLink }
	slices.SortStableFunc(links, func(a, b netlink.Link) int {
		switch {
		case own(a) && !own(b):
			return -1
		case own(b) && !own(a):
			return 1
		}
		return 0
	})
	for _, l := range links {
		a := l.Attrs()
		if a.RawFlags&unix.IFF_LOOPBACK != 0 || a.RawFlags&unix.IFF_UP == 0 && !own(l) || a.Statistics == nil || len(out) == maxLinks {
			continue
		}
		s := a.Statistics
		out = append(out, spec.LinkUse{
			Name:    a.Name,
			RxBytes: s.RxBytes, RxPackets: s.RxPackets, RxErrors: s.RxErrors, RxDropped: s.RxDropped,
			TxBytes: s.TxBytes, TxPackets: s.TxPackets, TxErrors: s.TxErrors, TxDropped: s.TxDropped,
		})
	}
	return out
}
