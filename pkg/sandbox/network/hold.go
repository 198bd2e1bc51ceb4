package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/network/ruleset"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// holdPorts binds a socket to every host port. Without it a process of the node, or another daemon's pod, could take
// the same port and one of the two would silently get nothing. The sockets receive nothing: the packets are redirected
// before. On failure none is held; the error is AlreadyExists, or FailedPrecondition for SCTP without the kernel's.
func holdPorts(ports []ruleset.HostPort) (held []int, err error) {
	for _, p := range ports {
		fd, err := holdPort(p)
		if err != nil {
			for _, fd := range held {
				unix.Close(fd)
			}
			return nil, err
		}
		held = append(held, fd)
	}
	return held, nil
}

func holdPort(p ruleset.HostPort) (int, error) {
	family, typ, proto := unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_TCP
	if !p.V4 {
		family = unix.AF_INET6
	}
	switch p.Proto {
	case spec.UDP:
		typ, proto = unix.SOCK_DGRAM, unix.IPPROTO_UDP
	case spec.SCTP:
		proto = unix.IPPROTO_SCTP
	}
	fd, err := unix.Socket(family, typ|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		if p.Proto == spec.SCTP {
			return -1, spec.Preconditionf("host port %s: this kernel has no SCTP (%w)", p, err)
		}
		return -1, spec.Errorf(errdefs.ErrUnavailable, "host port %s: %w", p, err)
	}
	if err := bindPort(fd, p); err != nil {
		unix.Close(fd)
		if errors.Is(err, unix.EADDRINUSE) {
			return -1, spec.Errorf(errdefs.ErrAlreadyExists, "host port %s is in use by %s", p, portHolder(p))
		}
		return -1, spec.Errorf(errdefs.ErrUnavailable, "host port %s: %w", p, err)
	}
	return fd, nil
}

func bindPort(fd int, p ruleset.HostPort) error {
	set := func(level, opt, value int) error { return unix.SetsockoptInt(fd, level, opt, value) }
	// With SO_REUSEADDR the remains of closed connections are no obstacle, a listener still is. It is taken off again,
	// so that a later listener cannot get past this socket.
	reuse := func(on int) error {
		if p.Proto == spec.UDP {
			return nil
		}
		return set(unix.SOL_SOCKET, unix.SO_REUSEADDR, on)
	}
	err := reuse(1)
	if !p.V4 {
		err = errors.Join(err, set(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1))
	}
	// The host IP may come later, as that of a failover pair does.
	err = errors.Join(err, set(unix.IPPROTO_IP, unix.IP_FREEBIND, 1), set(unix.SOL_SOCKET, unix.SO_RCVBUF, 0))
	if err != nil {
		return err
	}
	var sa unix.Sockaddr = &unix.SockaddrInet4{Port: int(p.Port)}
	switch {
	case !p.V4 && p.Host.IsValid():
		sa = &unix.SockaddrInet6{Port: int(p.Port), Addr: p.Host.As16()}
	case !p.V4:
		sa = &unix.SockaddrInet6{Port: int(p.Port)}
	case p.Host.IsValid():
		sa = &unix.SockaddrInet4{Port: int(p.Port), Addr: p.Host.As4()}
	}
	if err := unix.Bind(fd, sa); err != nil {
		return err
	}
	return reuse(0)
}

// portHolder names who listens on the port, for an error: a search through /proc, done only then.
func portHolder(p ruleset.HostPort) string {
	const unknown = "a process of the node"
	socks, err := diag(p)
	if err != nil {
		return unknown
	}
	for _, s := range socks {
		ip, ok := netip.AddrFromSlice(s.ID.Source)
		if !ok || s.ID.SourcePort != p.Port {
			continue
		}
		// A socket on [::] may serve IPv4 too.
		if ip = ip.Unmap(); p.Host.IsValid() && !ip.IsUnspecified() && ip != p.Host {
			continue
		}
		if pid, comm := socketOwner(s.INode); pid != "" {
			return fmt.Sprintf("process %s (%s) on %s", pid, comm, net.JoinHostPort(ip.String(), fmt.Sprint(p.Port)))
		}
	}
	return unknown
}

func diag(p ruleset.HostPort) ([]*netlink.Socket, error) {
	families := []uint8{unix.AF_INET6}
	if p.V4 {
		families = []uint8{unix.AF_INET, unix.AF_INET6}
	}
	var out []*netlink.Socket
	for _, f := range families {
		list := netlink.SocketDiagTCP
		if p.Proto == spec.UDP {
			list = netlink.SocketDiagUDP
		}
		socks, err := list(f)
		if err != nil {
			return nil, err
		}
		for _, s := range socks {
			const tcpListen = 10
			if p.Proto != spec.TCP || s.State == tcpListen {
				out = append(out, s)
			}
		}
	}
	return out, nil
}

func socketOwner(inode uint32) (pid, comm string) {
	want := fmt.Sprintf("socket:[%d]", inode)
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		if l, err := os.Readlink(fd); err == nil && l == want {
			dir := filepath.Dir(filepath.Dir(fd))
			name, _ := os.ReadFile(filepath.Join(dir, "comm"))
			return filepath.Base(dir), strings.TrimSpace(string(name))
		}
	}
	return "", ""
}

// portConflict names the first pod, in the order of ids, that holds one of want. The error is AlreadyExists.
func portConflict(id string, want []ruleset.HostPort, pods map[string]*pod) error {
	var holder *pod
	var port ruleset.HostPort
	for _, p := range pods {
		if p.id == id || holder != nil && holder.id < p.id {
			continue
		}
		for _, w := range want {
			if slices.ContainsFunc(p.ports, w.Overlaps) {
				holder, port = p, w
				break
			}
		}
	}
	if holder == nil {
		return nil
	}
	return spec.Errorf(errdefs.ErrAlreadyExists, "host port %s is in use by sandbox %s", port, holder.id)
}
