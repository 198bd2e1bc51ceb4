package network

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"runtime"
	"time"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// podLink is the name of the pod's end.
const podLink = "eth0"

// createVeth makes both ends in one request: the pod's is born in its namespace, the host's on the bridge, so that a
// crash leaves either nothing or a link that is known by name and bridge.
func (a *addition) createVeth(context.Context) error {
	n := a.n
	bridge, err := n.ensureBridge()
	if err != nil {
		return err
	}
	return n.handles.use(func(h *netlink.Handle) error {
		br, err := h.LinkByIndex(bridge)
		if err != nil {
			return spec.Errorf(errdefs.ErrUnavailable, "bridge %s: %w", n.cfg.Bridge, err)
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name = n.cfg.VethName(a.id)
		attrs.MasterIndex = bridge
		attrs.MTU = br.Attrs().MTU
		attrs.Flags = net.FlagUp
		v := netlink.NewVeth(attrs)
		v.PeerName = podLink
		v.PeerNamespace = netlink.NsFd(a.netns)
		m := a.pod.mac()
		v.PeerHardwareAddr = m[:]
		if err := h.LinkAdd(v); errors.Is(err, fs.ErrExist) {
			return spec.Errorf(errdefs.ErrAlreadyExists, "link %s, or %s in the pod's namespace, is there already", attrs.Name, podLink)
		} else if err != nil {
			return spec.Errorf(errdefs.ErrUnavailable, "link %s: %w", attrs.Name, err)
		}
		// Needed with bridge-nf-call-iptables: a pod that reaches itself by a host port is then never routed.
		if err := h.LinkSetHairpin(v, true); err != nil {
			return spec.Errorf(errdefs.ErrUnavailable, "hairpin on link %s: %w", attrs.Name, err)
		}
		return nil
	})
}

func (a *addition) deleteVeth(ctx context.Context) error {
	return a.n.deleteLink(ctx, a.n.cfg.VethName(a.id))
}

// deleteLink deletes a link and returns as soon as nobody can find it, some 1 ms. The kernel's answer to the request
// takes 30 ms more, the time of its RCU barriers: that is left to a goroutine, and an error comes back if it is
// sooner.
func (n *Network) deleteLink(ctx context.Context, name string) error {
	var l netlink.Link
	err := n.handles.use(func(h *netlink.Handle) (err error) {
		l, err = h.LinkByName(name)
		return err
	})
	if isNotExist(err) {
		return nil
	}
	if err != nil {
		return spec.Errorf(errdefs.ErrUnavailable, "link %s: %w", name, err)
	}
	done := make(chan error, 1)
	n.wait.Go(func() {
		done <- n.handles.use(func(h *netlink.Handle) error { return h.LinkDel(l) })
	})
	return n.awaitGone(ctx, l, done)
}

func (n *Network) awaitGone(ctx context.Context, l netlink.Link, done <-chan error) error {
	pause := 100 * time.Microsecond
	for {
		select {
		case err := <-done:
			if err != nil && !isNotExist(err) {
				return spec.Errorf(errdefs.ErrUnavailable, "delete link %s: %w", l.Attrs().Name, err)
			}
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
		err := n.handles.use(func(h *netlink.Handle) error {
			_, err := h.LinkByIndex(l.Attrs().Index)
			return err
		})
		if isNotExist(err) {
			return nil
		}
		pause = min(2*pause, 5*time.Millisecond)
	}
}

// inNetns runs f on a thread of its own in the network namespace. The thread ends rather than return to others from a
// namespace that it could not leave.
func inNetns(fd, own int, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			done <- err
			return
		}
		err := f()
		if unix.Setns(own, unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

func ipNet(a netip.Addr, bits int) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(bits, a.BitLen())}
}

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
		gw := a.n.cfg.subnet(ip.Is4()).Router()
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
