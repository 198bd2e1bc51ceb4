package cni

import (
	"context"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/runtimed/runtimed/pkg/sandbox/network/cni/conf"
	"github.com/runtimed/runtimed/pkg/sandbox/network/cni/plugin"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// waitForQuiet is how long a GC waits for the plugins that run. It is best at the start, when none does.
const waitForQuiet = 5 * time.Second

// checkTime bounds a CHECK: a stop of the pod waits for it.
const checkTime = 10 * time.Second

// Recover takes over the recorded sandboxes. It runs no plugin itself: one that hangs must not keep the daemon from
// serving. What it begins goes on behind it: GC, the DELs that are owed, and a CHECK of every living pod.
func (n *Network) Recover(_ context.Context, live map[string]spec.NetworkResult) error {
	if err := n.journal.prepare(); err != nil {
		return err
	}
	// What a killed daemon's plugins still make would be nobody's.
	k := plugin.EndStrays(n.cfg.CacheDir, func(s plugin.Stray) bool {
		_, alive := live[s.Sandbox]
		return !alive && !s.Detached
	})
	if k > 0 {
		n.log.Warn("plugins of a daemon that was killed were still running, and were ended", "processes", k)
	}
	owed, err := n.owed(live)
	if err != nil {
		return err
	}
	for id, r := range live {
		if !n.journal.has(attachedDir, id) {
			n.log.Warn("a recorded sandbox was not connected by plugins: its network is not looked after", "sandbox", id)
		}
		if err := n.claim(id, r.Addresses); err != nil {
			n.log.Warn("address of a recorded sandbox", "sandbox", id, "error", err)
		}
	}
	n.recallCIDRs()
	n.mu.Lock()
	n.recovered = true
	n.mu.Unlock()
	n.look(false)
	n.watch()
	n.wait.Go(func() {
		if network, err := n.load(); err == nil {
			if err := n.collectOnce(n.ctx, network); err != nil {
				return
			}
		}
		for _, id := range owed {
			n.retire(id, 0)
		}
		n.checkAll(live)
	})
	return nil
}

// owed lists the sandboxes whose DEL nobody else will ask for: those that were leaving, and those without a record.
func (n *Network) owed(live map[string]spec.NetworkResult) ([]string, error) {
	ids, err := n.journal.list(leavingDir)
	if err != nil {
		return nil, err
	}
	attached, err := n.journal.list(attachedDir)
	for _, id := range attached {
		if _, alive := live[id]; !alive && n.options.Recorded != nil && !n.options.Recorded(id) {
			ids = append(ids, id)
		}
	}
	return ids, err
}

// collectOnce has the plugins of a network remove what belongs to none of the attachments, once in the daemon's life and
// before its first ADD. A GC that fails is logged: it takes nothing from the pods.
func (n *Network) collectOnce(ctx context.Context, network *conf.Network) error {
	if !network.Speaks("1.1.0") || network.List.DisableGC {
		return nil
	}
	release, err := n.locks.acquire(ctx, "gc "+network.List.Name)
	if err != nil {
		return err
	}
	defer release()
	n.mu.Lock()
	done := n.collected[network.List.Name]
	n.collected[network.List.Name] = true
	n.mu.Unlock()
	if done {
		return nil
	}
	if err := n.collect(ctx, network); err != nil {
		n.log.Warn("the plugins could not collect garbage", "network", network.List.Name, "configuration", network.File, "error", err)
	}
	return nil
}

func (n *Network) collect(ctx context.Context, network *conf.Network) error {
	quiet, cancel := context.WithTimeout(ctx, waitForQuiet)
	defer cancel()
	if err := n.gate.Acquire(quiet, everybody); err != nil {
		return err
	}
	defer n.gate.Release(everybody)
	attached, err := n.journal.list(attachedDir)
	if err != nil {
		return err
	}
	// What is leaving counts as there: its DEL is a better way down than a GC, and comes.
	leaving, err := n.journal.list(leavingDir)
	if err != nil {
		return err
	}
	args := &libcni.GCArgs{ValidAttachments: []types.GCAttachment{}}
	for _, id := range append(attached, leaving...) {
		args.ValidAttachments = append(args.ValidAttachments, types.GCAttachment{ContainerID: id, IfName: ifName})
	}
	ctx, cancel = context.WithTimeout(ctx, n.cfg.DelTimeout)
	defer cancel()
	return n.cni.GCNetworkList(ctx, network.List, args)
}

// checkAll asks the plugins whether each living pod is still connected as it was (CHECK). What is not is logged.
func (n *Network) checkAll(live map[string]spec.NetworkResult) {
	for id := range live {
		if n.ctx.Err() != nil {
			return
		}
		if err := n.check(n.ctx, id); err != nil && n.ctx.Err() == nil {
			n.log.Warn("a CHECK finds a pod not connected as its plugins left it", "sandbox", id, "error", err)
		}
	}
}

func (n *Network) check(ctx context.Context, id string) error {
	release, err := n.locks.acquire(ctx, id)
	if err != nil {
		return err
	}
	defer release()
	if !n.journal.has(attachedDir, id) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	return checkAttachment(ctx, n.cni, n.journal, id)
}

// checkAttachment runs CHECK for one attachment. Lists from before version 0.4.0 have no CHECK.
func checkAttachment(ctx context.Context, c *libcni.CNIConfig, j journal, id string) error {
	a, err := j.read(attachedDir, id)
	if err != nil {
		return err
	}
	network, err := conf.Parse(a.Config)
	if err != nil || !network.Speaks("0.4.0") {
		return err
	}
	return c.CheckNetworkList(ctx, network.List, a.runtimeConf(livingNetns(a.Netns)))
}
