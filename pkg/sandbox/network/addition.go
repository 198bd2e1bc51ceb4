package network

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/network/ruleset"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// addition carries one sandbox through the flow. On the way down only n, id and last are set.
type addition struct {
	n       *Network
	id      string
	request spec.NetworkRequest
	last    *spec.NetworkResult
	netns   int  // descriptor of the pod's network namespace, -1 before it is open
	noIPv6  bool // the pod's sysctls disable IPv6
	pod     *pod
	handle  *netlink.Handle // in the pod's namespace
}

func (a *addition) close() {
	if a.handle != nil {
		a.handle.Close()
	}
	if a.netns >= 0 {
		unix.Close(a.netns)
	}
}

func (a *addition) result() spec.NetworkResult {
	r := spec.NetworkResult{Version: spec.RecordVersion, HostVeth: a.n.cfg.VethName(a.id), Ports: a.request.Ports}
	a.n.mu.Lock()
	defer a.n.mu.Unlock()
	for _, ip := range a.pod.addrs {
		s := a.n.cfg.subnet(ip.Is4())
		r.Addresses = append(r.Addresses, spec.Address{IP: ip.String(), Prefix: s.Prefix.Bits(), Gateway: s.Router().String()})
	}
	return r
}

func (a *addition) ensureBridge(context.Context) error {
	_, err := a.n.ensureBridge()
	return err
}

// openNetns refuses what is not a network namespace, and above all the daemon's own: a pin that was never mounted
// would otherwise configure the node.
func (a *addition) openNetns(context.Context) error {
	path := a.request.Netns
	if path == "" {
		path = filepath.Join(a.n.cfg.NetnsDir, a.id)
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return spec.Preconditionf("network namespace %s: %w", path, err)
	}
	a.netns = fd
	if typ, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE); err != nil || typ != unix.CLONE_NEWNET {
		return spec.Preconditionf("%s is not a network namespace", path)
	}
	var theirs, ours unix.Stat_t
	if err := errors.Join(unix.Fstat(fd, &theirs), unix.Fstat(int(a.n.own), &ours)); err != nil {
		return spec.Preconditionf("network namespace %s: %w", path, err)
	}
	if theirs.Ino == ours.Ino && theirs.Dev == ours.Dev {
		return spec.Preconditionf("%s is the node's own network namespace", path)
	}
	if !a.n.cfg.hasIPv6() {
		return nil
	}
	err = inNetns(fd, int(a.n.own), func() error {
		// What a new link inherits; "all" sets it too.
		off, err := os.ReadFile("/proc/sys/net/ipv6/conf/default/disable_ipv6")
		a.noIPv6 = errors.Is(err, fs.ErrNotExist) || strings.TrimSpace(string(off)) == "1"
		return nil
	})
	if err != nil {
		return spec.Errorf(errdefs.ErrUnavailable, "network namespace %s: %w", path, err)
	}
	return nil
}

func (a *addition) takeAddresses(context.Context) error {
	n := a.n
	n.mu.Lock()
	defer n.mu.Unlock()
	p := &pod{id: a.id}
	for _, s := range n.cfg.Subnets {
		if a.noIPv6 && s.Prefix.Addr().Is6() {
			continue
		}
		ip, err := n.pools[s.Prefix.Addr().Is4()].Take(a.id)
		if err != nil {
			for _, got := range p.addrs {
				n.pools[got.Is4()].Release(got, a.id)
			}
			return err
		}
		p.addrs = append(p.addrs, ip)
	}
	if len(p.addrs) == 0 {
		return spec.Preconditionf("the pod's sysctls disable IPv6, and the network has no IPv4 subnet")
	}
	n.pods[a.id], a.pod = p, p
	return nil
}

func (a *addition) releaseAddresses(context.Context) error {
	n := a.n
	n.mu.Lock()
	defer n.mu.Unlock()
	if p := n.pods[a.id]; p != nil {
		for _, ip := range p.addrs {
			n.pools[ip.Is4()].Release(ip, a.id)
		}
		delete(n.pods, a.id)
	}
	return nil
}

func (a *addition) takePorts(context.Context) error {
	_, v4 := a.pod.addr(true)
	_, v6 := a.pod.addr(false)
	want, err := ruleset.ResolvePorts(a.request.Ports, v4, v6)
	if err != nil || len(want) == 0 {
		return err
	}
	n := a.n
	n.mu.Lock()
	if err := portConflict(a.id, want, n.pods); err != nil {
		n.mu.Unlock()
		return err
	}
	a.pod.ports = want // from here on no other pod gets them
	n.mu.Unlock()
	return inNetns(int(n.own), int(n.own), func() error {
		held, err := holdPorts(want)
		n.mu.Lock()
		a.pod.held = held
		n.mu.Unlock()
		return err
	})
}

func (a *addition) releasePorts(context.Context) error {
	n := a.n
	n.mu.Lock()
	defer n.mu.Unlock()
	if p := n.pods[a.id]; p != nil {
		releaseSockets(p)
		p.ports = nil
	}
	return nil
}

func releaseSockets(p *pod) {
	for _, fd := range p.held {
		unix.Close(fd)
	}
	p.held = nil
}

func (a *addition) addRules(context.Context) error {
	n := a.n
	n.mu.Lock()
	a.pod.rules, a.pod.put = true, true
	n.mu.Unlock()
	if err := n.addElements(a.pod); err != nil {
		return err
	}
	n.forgetFlows(a.pod.ports, nil)
	return nil
}

func (a *addition) deleteRules(context.Context) error {
	n := a.n
	n.mu.Lock()
	p := n.pods[a.id]
	known, put := n.recovered, p != nil && p.put
	if p != nil {
		p.rules = false
	}
	n.mu.Unlock()
	if put {
		if err := n.deleteElements(p); err != nil {
			return err
		}
		n.mu.Lock()
		p.put = false
		n.mu.Unlock()
		n.forgetFlows(p.ports, p.addrs)
		return nil
	}
	if p != nil || known {
		return nil // the tables hold nothing that memory does not
	}
	if err := n.deleteStrangers(a.id); err != nil {
		return err
	}
	n.forgetFlows(lastOf(a.last))
	return nil
}

// lastOf reads what a recorded result says, as far as it can be read.
func lastOf(r *spec.NetworkResult) (ports []ruleset.HostPort, addrs []netip.Addr) {
	if r == nil {
		return nil, nil
	}
	var v4, v6 bool
	for _, a := range r.Addresses {
		if ip, err := netip.ParseAddr(a.IP); err == nil {
			addrs = append(addrs, ip)
			v4, v6 = v4 || ip.Is4(), v6 || ip.Is6()
		}
	}
	ports, err := ruleset.ResolvePorts(r.Ports, v4, v6)
	if err != nil {
		return nil, addrs
	}
	return ports, addrs
}
