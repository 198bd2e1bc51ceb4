package network

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/network/address"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func isNotExist(err error) bool {
	var missing netlink.LinkNotFoundError
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.As(err, &missing)
}

// ensureBridge returns the index of the bridge, after making or completing it where this Network has not yet seen it
// whole. When it had to be made, the links of the known pods are attached again.
func (n *Network) ensureBridge() (index int, err error) {
	n.bridgeMu.Lock()
	defer n.bridgeMu.Unlock()
	err = n.handles.use(func(h *netlink.Handle) error {
		if l, err := h.LinkByName(n.cfg.Bridge); err == nil && n.bridge != 0 && l.Attrs().Index == n.bridge && l.Type() == "bridge" {
			return nil
		}
		n.bridge = 0
		i, err := n.makeBridge(h)
		n.fault("BridgeFailed", err)
		if err != nil {
			return err
		}
		n.bridge = i
		return n.attachAll(h, i)
	})
	return n.bridge, err
}

func (n *Network) makeBridge(h *netlink.Handle) (int, error) {
	l, err := h.LinkByName(n.cfg.Bridge)
	if isNotExist(err) {
		l, err = n.createBridge(h)
	}
	if err != nil {
		return 0, spec.Errorf(errdefs.ErrUnavailable, "bridge %s: %w", n.cfg.Bridge, err)
	}
	if l.Type() != "bridge" {
		return 0, spec.Preconditionf("the link %s is there but is no bridge (%s); choose another bridge name", n.cfg.Bridge, l.Type())
	}
	// Before the link is up: duplicate address detection would delay its link-local address by seconds.
	if err := n.bridgeSysctls(h); err != nil {
		return 0, err
	}
	for _, s := range n.cfg.Subnets {
		if err := h.AddrReplace(l, hostAddr(s)); err != nil {
			return 0, spec.Errorf(errdefs.ErrUnavailable, "address %s on bridge %s: %w", s.Router(), n.cfg.Bridge, err)
		}
	}
	if err := h.LinkSetUp(l); err != nil {
		return 0, spec.Errorf(errdefs.ErrUnavailable, "bridge %s up: %w", n.cfg.Bridge, err)
	}
	return l.Attrs().Index, nil
}

func hostAddr(s Subnet) *netlink.Addr {
	a := &netlink.Addr{IPNet: ipNet(s.Router(), s.Prefix.Bits())}
	if s.Router().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return a
}

func (n *Network) createBridge(h *netlink.Handle) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = n.cfg.Bridge
	attrs.MTU = n.mtu(h)
	// A fixed address: the kernel's own choice changes as ports come and go, and pods would lose their gateway.
	m := address.MAC(n.cfg.Subnets[0].Router())
	attrs.HardwareAddr = m[:]
	if err := h.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return h.LinkByName(n.cfg.Bridge)
}

// mtu is the configured MTU or that of the link that the default route leaves by.
func (n *Network) mtu(h *netlink.Handle) int {
	if n.cfg.MTU != 0 {
		return n.cfg.MTU
	}
	for _, f := range []int{unix.AF_INET, unix.AF_INET6} {
		routes, _ := h.RouteListFiltered(f, &netlink.Route{Dst: nil}, netlink.RT_FILTER_DST)
		for _, r := range routes {
			if l, err := h.LinkByIndex(r.LinkIndex); err == nil && l.Attrs().MTU >= 1280 && l.Attrs().MTU <= 65535 {
				return l.Attrs().MTU
			}
		}
	}
	return 1500
}

// bridgeSysctls turns forwarding on in the node's namespace, and sets on the bridge what host ports and immediate
// addresses need.
func (n *Network) bridgeSysctls(h *netlink.Handle) error {
	var set []sysctl
	if n.cfg.subnet(true) != nil {
		set = append(set, sysctl{"ipv4/ip_forward", "1"}, sysctl{"ipv4/conf/" + n.cfg.Bridge + "/route_localnet", "1"})
	}
	if n.cfg.hasIPv6() {
		if err := n.keepRouterAdvertisements(h); err != nil {
			return err
		}
		b := "ipv6/conf/" + n.cfg.Bridge + "/"
		set = append(set, sysctl{b + "disable_ipv6", "0"}, sysctl{b + "accept_dad", "0"}, sysctl{b + "accept_ra", "0"},
			sysctl{"ipv6/conf/all/forwarding", "1"})
	}
	return inNetns(int(n.own), int(n.own), func() error { return setSysctls(set) })
}

// keepRouterAdvertisements spares a node that has its IPv6 default route from router advertisements: turning forwarding
// on would make it deaf to them (Documentation/networking/ip-sysctl.rst, accept_ra), and the route would expire.
func (n *Network) keepRouterAdvertisements(h *netlink.Handle) error {
	routes, err := h.RouteListFiltered(unix.AF_INET6, &netlink.Route{Protocol: unix.RTPROT_RA}, netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return spec.Errorf(errdefs.ErrUnavailable, "IPv6 routes: %w", err)
	}
	var set []sysctl
	for _, r := range routes {
		if l, err := h.LinkByIndex(r.LinkIndex); err == nil {
			set = append(set, sysctl{"ipv6/conf/" + l.Attrs().Name + "/accept_ra", "2"})
		}
	}
	return inNetns(int(n.own), int(n.own), func() error { return setSysctls(set) })
}

// sysctl is a file below /proc/sys/net, which shows the network namespace of the thread that opens it.
type sysctl struct{ path, value string }

func setSysctls(list []sysctl) error {
	for _, s := range list {
		p := filepath.Join("/proc/sys/net", s.path)
		// Only written where it differs: writing ip_forward, even the same value, may reset other settings.
		have, err := os.ReadFile(p)
		if err == nil && strings.TrimSpace(string(have)) == s.value {
			continue
		}
		if err == nil {
			err = os.WriteFile(p, []byte(s.value), 0)
		}
		if err != nil {
			return spec.Errorf(errdefs.ErrUnavailable, "set sysctl net/%s to %s: %w", s.path, s.value, err)
		}
	}
	return nil
}

// attachAll puts the known pods' links on the bridge.
func (n *Network) attachAll(h *netlink.Handle, bridge int) error {
	n.mu.Lock()
	var names []string
	for id := range n.pods {
		names = append(names, n.cfg.VethName(id))
	}
	n.mu.Unlock()
	for _, name := range names {
		l, err := h.LinkByName(name)
		if isNotExist(err) {
			continue
		}
		if err == nil && l.Attrs().MasterIndex != bridge {
			err = attach(h, l, bridge)
		}
		if err != nil && !isNotExist(err) {
			return spec.Errorf(errdefs.ErrUnavailable, "link %s to bridge %s: %w", name, n.cfg.Bridge, err)
		}
	}
	return nil
}

func attach(h *netlink.Handle, l netlink.Link, bridge int) error {
	if err := h.LinkSetMasterByIndex(l, bridge); err != nil {
		return err
	}
	if err := h.LinkSetUp(l); err != nil {
		return err
	}
	return h.LinkSetHairpin(l, true)
}
