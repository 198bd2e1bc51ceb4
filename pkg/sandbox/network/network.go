package network

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/network/address"
	"github.com/runtimed/runtimed/pkg/sandbox/network/ruleset"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

// Options are what a Network needs beside its configuration; all are optional.
type Options struct {
	Log     *slog.Logger
	Observe step.Observer
}

// Network is the built-in network of one daemon. Its methods may be called concurrently, but calls for one sandbox
// must follow each other. doc.go tells its life.
type Network struct {
	cfg     Config
	log     *slog.Logger
	observe step.Observer
	rules   *ruleset.Ruleset
	own     netns.NsHandle // the daemon's network namespace
	handles handlePool

	bridgeMu sync.Mutex // held while the bridge is made; above mu
	bridge   int        // its index, once it was seen whole; guarded by bridgeMu

	nft   transactor // has its own lock, above mu
	flows forgetter

	mu        sync.Mutex
	pods      map[string]*pod
	pools     map[bool]*address.Pool // by "is IPv4"
	recovered bool
	faults    map[string]error // by reason; none is OK
	watching  bool

	warnOnce sync.Once
	stop     context.CancelFunc // ends what background waits for
	ctx      context.Context
	wait     sync.WaitGroup
}

// pod is what is known of one connected sandbox.
type pod struct {
	id    string
	addrs []netip.Addr // in the order of the configured subnets
	ports []ruleset.HostPort
	held  []int // sockets that keep the host ports from the node's own processes
	rules bool  // its elements belong in the tables
	put   bool  // they may be there
}

func (p *pod) addr(v4 bool) (netip.Addr, bool) {
	for _, a := range p.addrs {
		if a.Is4() == v4 {
			return a, true
		}
	}
	return netip.Addr{}, false
}

func (p *pod) mac() [6]byte { return address.MAC(p.addrs[0]) }

// New binds a Network to the network namespace of the calling thread. It changes nothing there.
func New(cfg Config, o Options) (*Network, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	own, err := netns.Get()
	if err != nil {
		return nil, spec.Errorf(errdefs.ErrUnavailable, "the daemon's network namespace: %w", err)
	}
	n := &Network{
		cfg: cfg, log: o.Log, observe: o.Observe, own: own, rules: ruleset.New(cfg.rules()),
		handles: handlePool{ns: own},
		pods:    map[string]*pod{}, pools: map[bool]*address.Pool{},
		faults: map[string]error{"NetworkNotRecovered": errNotRecovered},
	}
	if n.log == nil {
		n.log = slog.New(slog.DiscardHandler)
	}
	for _, s := range cfg.Subnets {
		n.pools[s.Prefix.Addr().Is4()] = address.NewPool(s)
	}
	n.nft = transactor{ns: own}
	n.ctx, n.stop = context.WithCancel(context.Background())
	return n, nil
}

// Close ends the watcher and gives up the host ports' sockets. Every pod stays connected.
func (n *Network) Close() error {
	n.stop()
	n.wait.Wait()
	n.mu.Lock()
	for _, p := range n.pods {
		releaseSockets(p)
	}
	n.mu.Unlock()
	n.nft.close()
	n.handles.close()
	return n.own.Close()
}

var errNotRecovered = spec.Errorf(errdefs.ErrUnavailable, "the network has not taken over the recorded pods yet; try again")

// Condition is what is known from the last change; it asks and waits for nothing.
func (n *Network) Condition() spec.Condition {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, reason := range slices.Sorted(maps.Keys(n.faults)) {
		return spec.Condition{Reason: reason, Message: n.faults[reason].Error()}
	}
	return spec.Condition{OK: true}
}

// fault records that something works, where err is nil, or does not.
func (n *Network) fault(reason string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err == nil {
		delete(n.faults, reason)
		return
	}
	n.faults[reason] = err
}

// Add connects the sandbox's network namespace. When it fails, nothing of the sandbox is left. Errors: AlreadyExists
// (connected already, or a host port is in use), ResourceExhausted (no address), InvalidArgument, Unavailable.
func (n *Network) Add(ctx context.Context, r spec.NetworkRequest) (spec.NetworkResult, error) {
	n.mu.Lock()
	ready, known := n.recovered, n.pods[r.SandboxID] != nil
	n.mu.Unlock()
	switch {
	case r.SandboxID == "":
		return spec.NetworkResult{}, spec.Invalidf("network request without a sandbox id")
	case !ready:
		return spec.NetworkResult{}, errNotRecovered
	case known:
		return spec.NetworkResult{}, spec.Errorf(errdefs.ErrAlreadyExists, "sandbox %s is connected already", r.SandboxID)
	}
	n.warnOnce.Do(n.warnOfFirewall)
	a := &addition{n: n, id: r.SandboxID, request: r, netns: -1}
	defer a.close()
	f := n.flow(a)
	if err := f.Run(ctx); err != nil {
		// What is half made must go even when the caller has gone.
		down, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if uerr := f.Teardown(down); uerr != nil {
			n.log.Error("network of a sandbox that was not made could not be taken down", "sandbox", r.SandboxID, "error", uerr)
			err = errors.Join(err, uerr)
		}
		return spec.NetworkResult{}, err
	}
	return a.result(), nil
}

// Remove takes all of the sandbox's network down. It finds everything by the id: last may be nil, the namespace may be
// gone or still be held, and the sandbox may never have been added. The host's end of the link is gone when it returns.
func (n *Network) Remove(ctx context.Context, sandboxID string, last *spec.NetworkResult) error {
	if sandboxID == "" {
		return spec.Invalidf("network removal without a sandbox id")
	}
	return n.flow(&addition{n: n, id: sandboxID, last: last, netns: -1}).Teardown(ctx)
}

// flow is the network of one sandbox, up and down.
func (n *Network) flow(a *addition) step.Flow {
	return step.Flow{Name: "network", ID: a.id, Observe: n.observe, Steps: []step.Step{
		{Name: "bridge", Do: a.ensureBridge}, // everybody's: nobody's undo
		{Name: "netns", Do: a.openNetns},     // before anything is reserved: the likeliest thing to be wrong
		{Name: "addresses", Do: a.takeAddresses, Undo: a.releaseAddresses},
		{Name: "ports", Do: a.takePorts, Undo: a.releasePorts}, // needs the pod's families
		{Name: "veth", Do: a.createVeth, Undo: a.deleteVeth},
		{Name: "rules", Do: a.addRules, Undo: a.deleteRules}, // before the interface is up, or its first packets are dropped
		{Name: "interface", Do: a.configure},                 // ends with the link
		{Name: "ready", Do: a.awaitReady},                    // the pod's first packet must arrive
	}}
}

// handlePool hands out netlink sockets in the daemon's namespace, so that no request waits for another one's reply.
type handlePool struct {
	ns   netns.NsHandle
	mu   sync.Mutex
	free []*netlink.Handle
}

// use calls f with a handle.
func (p *handlePool) use(f func(*netlink.Handle) error) error {
	p.mu.Lock()
	var h *netlink.Handle
	if k := len(p.free); k > 0 {
		h, p.free = p.free[k-1], p.free[:k-1]
	}
	p.mu.Unlock()
	if h == nil {
		var err error
		if h, err = netlink.NewHandleAt(p.ns, unix.NETLINK_ROUTE); err != nil {
			return spec.Errorf(errdefs.ErrUnavailable, "netlink socket: %w", err)
		}
	}
	err := f(h)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) < 8 {
		p.free = append(p.free, h)
	} else {
		h.Close()
	}
	return err
}

func (p *handlePool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range p.free {
		h.Close()
	}
	p.free = nil
}
