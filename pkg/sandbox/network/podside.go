package network

import (
	"context"
	"net"
	"time"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// configure sets the pod's end up: loopback, addresses, default routes.
func (a *addition) configure(context.Context) error {
	err := inNetns(a.netns, int(a.n.own), func() (err error) {
		if _, v6 := a.pod.addr(false); v6 {
			// Usable at once, and its router is our choice.
			const dir = "ipv6/conf/" + podLink + "/"
			if err := setSysctls([]sysctl{{dir + "accept_dad", "0"}, {dir + "accept_ra", "0"}}); err != nil {
				return err
			}
		}
		a.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return spec.Errorf(errdefs.ErrUnavailable, "pod's network namespace: %w", err)
	}
	if err := a.setUp(a.handle); err != nil {
		return spec.Errorf(errdefs.ErrUnavailable, "pod's interface: %w", err)
	}
	return nil
}

func (a *addition) setUp(h *netlink.Handle) error {
	lo, err := h.LinkByName("lo")
	if err != nil {
		return err
	}
	if lo.Attrs().Flags&net.FlagUp == 0 {
		if err := h.LinkSetUp(lo); err != nil {
			return err
		}
	}
	l, err := h.LinkByName(podLink)
	if err != nil {
		return err
	}
	if err := h.LinkSetUp(l); err != nil {
		return err
	}
	for _, ip := range a.pod.addrs {
		s := a.n.cfg.subnet(ip.Is4())
		// Not with IFA_F_NODAD: the tentative flag is how awaitReady knows that the kernel has finished. There is no
		// detection, because accept_dad is 0.
		if err := h.AddrAdd(l, &netlink.Addr{IPNet: ipNet(ip, s.Prefix.Bits())}); err != nil {
			return err
		}
	}
	for _, ip := range a.pod.addrs {
		gw := a.n.cfg.subnet(ip.Is4()).gateway()
		if err := h.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: gw.AsSlice()}); err != nil {
			return err
		}
	}
	return nil
}

// awaitReady waits for what the kernel does by itself, mostly within 1 ms, after a link came up: it activates the queue
// of a bridge that just got its first carrier, lets the port forward, and makes the pod listen for neighbour
// solicitations. A packet that is sent before is lost, and its sender tries again after a second.
func (a *addition) awaitReady(ctx context.Context) error {
	const longest = time.Second // then the kernel is very busy; the pod is whole all the same
	for begin, pause := time.Now(), 50*time.Microsecond; ; pause = min(2*pause, 5*time.Millisecond) {
		ready, err := a.ready()
		if err != nil {
			return spec.Errorf(errdefs.ErrUnavailable, "pod's interface: %w", err)
		}
		if ready {
			return nil
		}
		if time.Since(begin) > longest {
			a.n.log.Warn("a pod's link is not ready yet; its first packets may be lost", "sandbox", a.id)
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

func (a *addition) ready() (bool, error) {
	ready := false
	err := a.n.handles.use(func(h *netlink.Handle) error {
		for _, name := range []string{a.n.cfg.VethName(a.id), a.n.cfg.Bridge} {
			l, err := h.LinkByName(name)
			if err != nil {
				return err
			}
			if l.Attrs().OperState != netlink.OperUp {
				return nil
			}
		}
		ready = true
		return nil
	})
	if _, v6 := a.pod.addr(false); err != nil || !ready || !v6 {
		return ready, err
	}
	addrs, err := a.handle.AddrList(nil, unix.AF_INET6)
	for _, ip := range addrs {
		ready = ready && ip.Flags&unix.IFA_F_TENTATIVE == 0
	}
	return ready, err
}
