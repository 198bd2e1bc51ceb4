package cni

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/libcni"

	"github.com/runtimed/runtimed/pkg/sandbox/network/cni/conf"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// longestPause is between two DELs of a pod whose plugins keep failing.
const longestPause = 5 * time.Minute

// Remove disconnects the sandbox, whatever of it was connected. It finds everything by the id: what has no attachment was
// never given to a plugin. The error is Unavailable when the plugins failed; they are asked again in the background, and
// by the next Remove.
func (n *Network) Remove(ctx context.Context, sandboxID string, _ *spec.NetworkResult) error {
	if sandboxID == "" {
		return spec.Invalidf("network removal without a sandbox id")
	}
	err := n.disconnect(ctx, sandboxID)
	if err == nil {
		return nil
	}
	n.retire(sandboxID, n.options.FirstPause)
	if errors.Is(err, context.Canceled) {
		return err
	}
	return spec.Errorf(errdefs.ErrUnavailable, "the network has not let sandbox %s go, and is asked again in the background: %w", sandboxID, err)
}

// disconnect marks the attachment as leaving and runs the DEL.
func (n *Network) disconnect(ctx context.Context, id string) error {
	release, err := n.locks.acquire(ctx, id)
	if err != nil {
		return err
	}
	defer release()
	if err := n.journal.leave(id); err != nil {
		return err
	}
	n.disclaim(id)
	if !n.journal.has(leavingDir, id) {
		return n.journal.left(id) // somebody gave it up: only the plugins' result may be there
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.DelTimeout)
	defer cancel()
	if err := n.gate.Acquire(ctx, 1); err != nil {
		return context.Cause(ctx)
	}
	defer n.gate.Release(1)
	if err := n.del(ctx, id); err != nil {
		return err
	}
	return n.journal.left(id)
}

// del asks the plugins of the configuration that the sandbox was connected with. Where that cannot be read any more, the
// plugins of the present one are asked, by the id alone.
func (n *Network) del(ctx context.Context, id string) error {
	a, err := n.journal.read(leavingDir, id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		network, cerr := conf.Load(n.cfg.ConfDir)
		if cerr != nil {
			return errors.Join(err, cerr)
		}
		n.log.Error("an attachment cannot be read: its DEL is made with the present configuration", "sandbox", id, "error", err)
		return n.cni.DelNetworkList(ctx, network.List, &libcni.RuntimeConf{ContainerID: id, IfName: ifName})
	}
	network, err := conf.Parse(a.Config)
	if err != nil {
		return err
	}
	return n.cni.DelNetworkList(ctx, network.List, a.runtimeConf(livingNetns(a.Netns)))
}

// retire repeats the DEL in the background until it succeeds, the first time after the pause.
func (n *Network) retire(id string, pause time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.retiring[id] || n.ctx.Err() != nil {
		return
	}
	n.retiring[id] = true
	n.wait.Go(func() {
		n.repeat(id, pause)
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.retiring, id)
	})
}

func (n *Network) repeat(id string, pause time.Duration) {
	for tries := 1; ; tries++ {
		select {
		case <-n.ctx.Done():
			return
		case <-time.After(pause):
		}
		if !n.journal.has(leavingDir, id) && !n.journal.has(attachedDir, id) {
			return // a Remove was faster
		}
		if n.again.Acquire(n.ctx, 1) != nil {
			return
		}
		err := n.disconnect(n.ctx, id)
		n.again.Release(1)
		if err == nil {
			n.log.Info("the network has let a sandbox go", "sandbox", id, "tries", tries)
			return
		}
		if n.ctx.Err() == nil {
			n.log.Warn("the network does not let a sandbox go", "sandbox", id, "tries", tries, "error", err)
		}
		pause = min(max(pause, n.options.FirstPause)*2, longestPause)
	}
}
