package cni

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// livingNetns is the path where a namespace is pinned there, else "": a DEL gets an empty CNI_NETNS then, as after a
// reboot, when the pin's file may still be there.
func livingNetns(path string) string {
	var st unix.Statfs_t
	if path == "" || unix.Statfs(path, &st) != nil || st.Type != unix.NSFS_MAGIC {
		return ""
	}
	return path
}

// lookInto holds a plugin's answer against the namespace: the interface must be there, with those addresses. It returns
// the name of the link's other end on the node, "" where it has none or that cannot be told.
func lookInto(path, ifname string, answer []spec.Address) (hostLink string, err error) {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return "", fmt.Errorf("network namespace %s: %w", path, err)
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return "", fmt.Errorf("network namespace %s: %w", path, err)
	}
	defer h.Close()
	link, err := h.LinkByName(ifname)
	if err != nil {
		return "", fmt.Errorf("the plugins answered with addresses, but there is no %s in the pod: %w", ifname, err)
	}
	has, err := h.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return "", fmt.Errorf("addresses of %s in the pod: %w", ifname, err)
	}
	there := map[netip.Addr]bool{}
	for _, a := range has {
		if ip, ok := netip.AddrFromSlice(a.IP); ok {
			there[ip.Unmap()] = true
		}
	}
	for _, a := range answer {
		if ip, err := netip.ParseAddr(a.IP); err != nil || !there[ip] {
			return "", fmt.Errorf("the plugins answered with address %s, which %s in the pod has not", a.IP, ifname)
		}
	}
	return peer(link), nil
}

func peer(link netlink.Link) string {
	if link.Type() != "veth" {
		return ""
	}
	other, err := netlink.LinkByIndex(link.Attrs().ParentIndex)
	if err != nil || other.Type() != "veth" {
		return ""
	}
	return other.Attrs().Name
}

// checkSCTP refuses SCTP host ports where the kernel has no SCTP: rules for it would be made, and nothing would pass.
func checkSCTP(ports []spec.PortMapping) error {
	for _, p := range ports {
		if p.Protocol != spec.SCTP || p.HostPort == 0 {
			continue
		}
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
		if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.ESOCKTNOSUPPORT) {
			return spec.Preconditionf("host port %d/sctp: this kernel has no SCTP (%w)", p.HostPort, err)
		}
		if err != nil {
			return spec.Preconditionf("host port %d/sctp: %w", p.HostPort, err)
		}
		unix.Close(fd)
	}
	return nil
}
