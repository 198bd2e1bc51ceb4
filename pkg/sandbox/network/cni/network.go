package cni

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/libcni"
	"golang.org/x/sync/semaphore"

	"github.com/runtimed/runtimed/pkg/sandbox/network/cni/conf"
	"github.com/runtimed/runtimed/pkg/sandbox/network/cni/plugin"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

// ifName is the name of a pod's interface: all of Kubernetes expects it.
const ifName = "eth0"

// everybody is the weight of a GC, which no ADD and no DEL may accompany (CNI specification 1.1).
const everybody = 1 << 20

// Options are what a Network needs beside its configuration; all are optional.
type Options struct {
	Log     *slog.Logger
	Observe step.Observer
	// Recorded tells whether the sandbox has a record: whose attachment nobody will ask to remove is removed by Recover.
	// Nil takes every sandbox for recorded.
	Recorded func(sandboxID string) bool
	// FirstPause is the pause behind a DEL that failed, which doubles up to five minutes; default 1 s.
	FirstPause time.Duration
}

// Network connects pods through CNI plugins. Its methods may be called concurrently. doc.go tells its life.
type Network struct {
	cfg     Config
	options Options
	log     *slog.Logger
	journal journal
	cni     *libcni.CNIConfig
	exec    *plugin.Exec
	gate    *semaphore.Weighted // plugins: one for an ADD or a DEL, everybody for a GC
	locks   locks               // one per sandbox, below no other
	again   *semaphore.Weighted // background DELs at one time

	mu        sync.Mutex
	recovered bool
	addrs     map[netip.Addr]string // of the attached pods, with their sandboxes
	retiring  map[string]bool       // sandboxes whose DEL is repeated in the background
	collected map[string]bool       // networks whose plugins collected garbage
	cidrs     []netip.Prefix
	state     state

	stop context.CancelFunc
	ctx  context.Context
	wait sync.WaitGroup
}

// New checks the configuration and touches nothing.
func New(cfg Config, o Options) (*Network, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.FirstPause == 0 {
		o.FirstPause = time.Second
	}
	exec := &plugin.Exec{Daemon: cfg.CacheDir}
	n := &Network{
		cfg: cfg, options: o, log: o.Log, journal: journal{cfg.CacheDir}, exec: exec,
		cni:   libcni.NewCNIConfigWithCacheDir(cfg.BinDirs, cfg.CacheDir, exec),
		gate:  semaphore.NewWeighted(everybody),
		again: semaphore.NewWeighted(2),
		addrs: map[netip.Addr]string{}, retiring: map[string]bool{}, collected: map[string]bool{},
	}
	n.state.condition = notReady(errNotRecovered)
	n.ctx, n.stop = context.WithCancel(context.Background())
	return n, nil
}

// Close ends what runs in the background. Every pod stays connected, and what is owed stays recorded.
func (n *Network) Close() error {
	n.mu.Lock() // who begins something holds it too
	n.stop()
	n.mu.Unlock()
	n.wait.Wait()
	return nil
}

var errNotRecovered = spec.Errorf(errdefs.ErrUnavailable, "the network has not taken over the recorded pods yet; try again")

// Add connects the sandbox's network namespace. When it fails, Remove takes down what is half made. Errors: Unavailable
// (no configuration, a plugin failed, or its answer cannot be true), InvalidArgument, FailedPrecondition, AlreadyExists.
func (n *Network) Add(ctx context.Context, r spec.NetworkRequest) (spec.NetworkResult, error) {
	n.mu.Lock()
	ready := n.recovered
	n.mu.Unlock()
	if !ready {
		return spec.NetworkResult{}, errNotRecovered
	}
	release, err := n.locks.acquire(ctx, r.SandboxID)
	if err != nil {
		return spec.NetworkResult{}, err
	}
	defer release()
	a := &addition{n: n, request: r}
	return a.result, a.run(ctx)
}

// addition carries one sandbox through an ADD.
type addition struct {
	n          *Network
	request    spec.NetworkRequest
	network    *conf.Network
	attachment attachment
	addresses  []spec.Address
	result     spec.NetworkResult
}

func (a *addition) run(ctx context.Context) error {
	return step.Flow{Name: "cni", ID: a.request.SandboxID, Observe: a.n.options.Observe, Steps: []step.Step{
		{Name: "configuration", Do: a.choose},
		{Name: "attachment", Do: a.record}, // before any plugin: what is half made is found from it
		{Name: "plugins", Do: a.add},
		{Name: "answer", Do: a.judge},
	}}.Run(ctx)
}

func (a *addition) choose(ctx context.Context) error {
	n, r := a.n, a.request
	if err := checkSCTP(r.Ports); err != nil {
		return err
	}
	network, err := n.load()
	if err == nil {
		err = n.present(network) // nothing is begun, and nothing owed, where a plugin is missing
	}
	if err != nil {
		return spec.Errorf(errdefs.ErrUnavailable, "%w", err)
	}
	a.network = network
	args, err := k8sArgs(r)
	if err != nil {
		return err
	}
	n.mu.Lock()
	cidrs := n.cidrs
	n.mu.Unlock()
	caps, unmet, err := capabilities(r, network, cidrs, n.cfg.PodAddresses)
	if err != nil {
		return err
	}
	for _, name := range unmet {
		n.log.Warn("no plugin of the network takes what the pod asks for: unless a daemon of the network serves it, nobody does",
			"sandbox", r.SandboxID, "capability", name, "configuration", network.File)
	}
	a.attachment = attachment{
		Version: spec.RecordVersion, SandboxID: r.SandboxID, Netns: r.Netns, IfName: ifName,
		Args: args, Capabilities: caps, Config: network.List.Bytes,
	}
	return n.collectOnce(ctx, network)
}

func (a *addition) record(context.Context) error {
	id := a.request.SandboxID
	if a.n.journal.has(leavingDir, id) {
		return spec.Errorf(errdefs.ErrAlreadyExists, "sandbox %s is still being disconnected", id)
	}
	err := a.n.journal.add(a.attachment)
	if errors.Is(err, fs.ErrExist) {
		return spec.Errorf(errdefs.ErrAlreadyExists, "sandbox %s is connected already", id)
	}
	return err
}

func (a *addition) add(ctx context.Context) error {
	n := a.n
	ctx, cancel := context.WithTimeout(ctx, n.cfg.AddTimeout)
	defer cancel()
	if err := n.gate.Acquire(ctx, 1); err != nil {
		return spec.Errorf(errdefs.ErrUnavailable, "other plugins are in the way: %w", context.Cause(ctx))
	}
	defer n.gate.Release(1)
	answer, err := n.cni.AddNetworkList(ctx, a.network.List, a.attachment.runtimeConf(a.request.Netns))
	if err != nil {
		return spec.Errorf(errdefs.ErrUnavailable, "network %s (%s): %w", a.network.List.Name, a.network.File, err)
	}
	a.addresses, err = addresses(answer, ifName)
	if err != nil {
		return spec.Errorf(errdefs.ErrUnavailable, "network %s (%s): %w", a.network.List.Name, a.network.File, err)
	}
	return nil
}

func (a *addition) judge(context.Context) error {
	n, id := a.n, a.request.SandboxID
	veth, err := lookInto(a.request.Netns, ifName, a.addresses)
	if err == nil {
		err = n.claim(id, a.addresses)
	}
	if err != nil {
		return spec.Errorf(errdefs.ErrUnavailable, "network %s (%s): %w", a.network.List.Name, a.network.File, err)
	}
	a.result = spec.NetworkResult{Version: spec.RecordVersion, HostVeth: veth, Addresses: a.addresses, Ports: a.request.Ports}
	return nil
}

// claim remembers whose the addresses are. One that an attached pod has already is an error.
func (n *Network) claim(id string, addresses []spec.Address) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var ips []netip.Addr
	for _, a := range addresses {
		ip, err := netip.ParseAddr(a.IP)
		if err != nil {
			return err
		}
		if owner := n.addrs[ip]; owner != "" && owner != id {
			return fmt.Errorf("the plugins answered with address %s, which sandbox %s has", ip, owner)
		}
		ips = append(ips, ip)
	}
	for _, ip := range ips {
		n.addrs[ip] = id
	}
	return nil
}

func (n *Network) disclaim(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for ip, owner := range n.addrs {
		if owner == id {
			delete(n.addrs, ip)
		}
	}
}
