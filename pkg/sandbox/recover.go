package sandbox

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/state"
)

// startingGrace is how long a creator that outlived its daemon may take to let its program go.
const startingGrace = 5 * time.Second

// settlePatience is how long the first request waits for what must be taken down.
const settlePatience = 10 * time.Second

// Recover brings the Runtime back to the truth: what runs is watched again, what ended meanwhile has its end, what is
// half made is undone, what cannot be believed is set aside. It must return before the first request is served. A
// record never makes it fail.
func (r *Runtime) Recover(ctx context.Context) error {
	good, bad, err := r.store.Load()
	if err != nil {
		return err
	}
	live := map[string]spec.NetworkResult{}
	for _, rec := range good {
		p := r.remember(rec)
		if p.network != nil && p.state(r.bootID) == spec.SandboxReady {
			live[p.spec.ID] = *p.network
		}
	}
	if err := r.Network.Recover(ctx, live); err != nil {
		return err
	}
	var work errgroup.Group
	work.SetLimit(8)
	for _, rec := range good { // before any stop: what runs must be watched to be seen ending
		work.Go(func() error {
			for _, c := range r.pod(rec.Spec.ID).list() {
				r.recoverContainer(ctx, c)
			}
			return nil
		})
	}
	work.Wait()
	r.settleAll(good, bad)
	return nil
}

// settleAll takes down what must go. It goes on behind Recover when that takes long: a network whose plugins hang must
// not keep the daemon from serving, least of all when they wait for a pod that it is to run.
func (r *Runtime) settleAll(good []state.SandboxRecord, bad []state.Bad) {
	ctx, done := r.quit, make(chan struct{})
	r.background.Go(func() {
		defer close(done)
		var work errgroup.Group
		work.SetLimit(8)
		for _, b := range bad {
			work.Go(func() error { r.quarantine(ctx, b); return nil })
		}
		for _, rec := range good {
			work.Go(func() error { r.recoverPod(ctx, rec); return nil })
		}
		work.Wait()
		r.removeStrays(ctx)
	})
	select {
	case <-done:
	case <-time.After(settlePatience):
		r.Log.Warn("some sandboxes are still being taken down; that goes on in the background")
	}
}

// remember takes a record into memory, as it says.
func (r *Runtime) remember(rec state.SandboxRecord) *pod {
	p := newPod(rec.Spec)
	p.network = rec.Network
	if rec.Status != nil {
		p.status = *rec.Status
		// Shown at once: what is found out about its containers is everybody's business.
		p.visible = p.status.ReadyAt != 0
	}
	r.mu.Lock()
	r.pods[p.spec.ID] = p
	r.podKeys[p.spec.Request.Metadata.Key()] = p.spec.ID
	r.mu.Unlock()
	for _, rc := range rec.Containers {
		c := newContainer(p, rc.Spec)
		c.facts = rc.Facts
		r.adopt(c)
	}
	return p
}

// recoverPod settles one remembered sandbox. One that never became ready is undone; one of another boot, or whose pins
// or init are gone, is stopped.
func (r *Runtime) recoverPod(ctx context.Context, rec state.SandboxRecord) {
	p := r.pod(rec.Spec.ID)
	if rec.Status == nil || rec.Status.ReadyAt == 0 {
		if err := r.removePod(ctx, p); err != nil {
			r.appear(p)
			r.Log.Error("a half-made sandbox could not be undone; remove it", "sandbox", p.spec.ID, "error", err)
			return
		}
		r.Log.Info("a half-made sandbox was undone", "sandbox", p.spec.ID)
		return
	}
	switch {
	case p.state(r.bootID) == spec.SandboxReady && r.pinned(p):
		r.watchInit(p)
	case rec.Spec.BootID != r.bootID || p.status.StoppedAt == 0:
		// A stop that was under way is finished by whoever asked for it, or by the removal.
		if err := r.stopPod(ctx, p); err != nil {
			r.Log.Error("a sandbox that is no longer ready could not be stopped; remove it", "sandbox", p.spec.ID, "error", err)
		}
	}
	r.removeIfLast(p)
}

func (r *Runtime) pod(id string) *pod {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pods[id]
}

// pinned tells whether the pod's network namespace is still there.
func (r *Runtime) pinned(p *pod) bool {
	if !ownNetwork(p.spec) {
		return true
	}
	_, err := os.Lstat(r.Layout.NetnsPin(p.spec.ID))
	return err == nil
}

// recoverContainer settles one remembered container.
func (r *Runtime) recoverContainer(ctx context.Context, c *container) {
	_, alive := r.Shims.Alive(r.Layout, c.spec.SandboxID, c.spec.ID)
	// Read behind the question, not taken from the record: a shim that left since has left its exit.
	started, exit, err := r.store.ShimFacts(c.spec.SandboxID, c.spec.ID)
	if err != nil {
		r.quarantine(ctx, state.Bad{SandboxID: c.spec.SandboxID, ContainerID: c.spec.ID, Err: err})
		return
	}
	facts := c.change(func(f *spec.Facts) { f.Started, f.Exit = started, exit })
	switch v := state.Observe(state.Observation{Facts: facts, SameBoot: c.spec.BootID == r.bootID, ShimAlive: alive}); v {
	case state.VerdictCreated:
	case state.VerdictRunning:
		r.recoverUpdate(ctx, c)
		r.watch(c, nil)
		r.endSessions(ctx, c)
	case state.VerdictStarting:
		// Held until it is known what became of the start: nobody starts it a second time, or stops what is not yet there.
		release, err := c.op.acquire(ctx)
		if err != nil {
			return
		}
		r.background.Go(func() { r.awaitStart(c, release) })
	case state.VerdictEnded:
		r.publishEndMeanwhile(c)
		close(c.done)
		r.background.Go(func() { r.clear(c) })
	case state.VerdictRebooted:
		r.settle(ctx, c, spec.Exit{Code: codeRebooted, Reason: reasonRebooted, Message: "the node was restarted"})
	case state.VerdictBroken:
		r.settle(ctx, c, spec.Exit{Code: codeStartError, Reason: reasonStartError, Message: "its start was interrupted"})
	case state.VerdictLost:
		r.settle(ctx, c, spec.Exit{Code: codeLost, Reason: reasonLost, Message: "its shim ended without stating an exit"})
	}
}

// endSessions kills what exec sessions of the former daemon left. Most end with it; one whose own process was killed too
// cannot.
func (r *Runtime) endSessions(ctx context.Context, c *container) {
	ctx, cancel := context.WithTimeout(ctx, startingGrace)
	defer cancel()
	launch, err := r.launchOf(c)
	if err == nil {
		err = r.Sessions.EndSessions(ctx, launch)
	}
	if err != nil {
		r.Log.Error("an exec session of the former daemon may go on until its container ends", "container", c.spec.ID, "error", err)
	}
}

// settle kills what is left of a container and records its end.
func (r *Runtime) settle(ctx context.Context, c *container, e spec.Exit) {
	if err := r.Cgroups.Kill(ctx, c.spec.CgroupPath); err != nil {
		r.Log.Error("a container without a shim could not be killed", "container", c.spec.ID, "error", err)
	}
	r.end(c, e)
	r.background.Go(func() { r.clear(c) })
}

// awaitStart waits for a creator that outlived its daemon: the container runs then, or never did. A removal or a stop of
// its sandbox ends the wait.
func (r *Runtime) awaitStart(c *container, release func()) {
	if r.hasStarted(c) {
		r.publish(c.pod, c.spec.ID, spec.EventStarted)
		release()
		r.watch(c, nil)
		return
	}
	if r.quit.Err() != nil {
		release()
		return
	}
	if err := r.endShim(r.quit, c); err != nil {
		r.Log.Error("an interrupted start could not be undone", "container", c.spec.ID, "error", err)
	}
	r.end(c, spec.Exit{Code: codeStartError, Reason: reasonStartError, Message: "its start was interrupted"})
	release()
	r.clear(c)
}

// hasStarted looks, for startingGrace at most, whether a living creator lets its program go.
func (r *Runtime) hasStarted(c *container) bool {
	ctx, cancel := context.WithTimeout(r.quit, startingGrace)
	defer cancel()
	for {
		// Asked before the facts are read: a shim that left in between has left them.
		_, alive := r.Shims.Alive(r.Layout, c.spec.SandboxID, c.spec.ID)
		started, _, err := r.store.ShimFacts(c.spec.SandboxID, c.spec.ID)
		if err == nil && started != nil {
			c.change(func(f *spec.Facts) { f.Started = started })
			return true
		}
		if !alive {
			return false
		}
		select {
		case <-c.halting:
			return false
		case <-ctx.Done():
			return false
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// quarantine sets a record aside that cannot be believed, and takes down by id what it may have made. Its name and
// range are free: nothing of it was remembered.
func (r *Runtime) quarantine(ctx context.Context, b state.Bad) {
	log := r.Log.With("sandbox", b.SandboxID, "container", b.ContainerID, "error", b.Err)
	if err := r.purge(ctx, b); err != nil {
		log.Error("a record that cannot be read has kernel objects that could not be removed", "undo", err)
	}
	where, err := r.store.SetAside(b)
	if err != nil {
		log.Error("a record that cannot be read could not be set aside", "move", err)
		return
	}
	log.Error("a record that cannot be read was set aside", "where", where)
}

func (r *Runtime) purge(ctx context.Context, b state.Bad) error {
	id := b.SandboxID
	if b.ContainerID != "" {
		id = b.ContainerID
		if c, err := r.findContainer(id); err == nil {
			r.disown(c)
			r.publish(c.pod, c.spec.ID, spec.EventDeleted)
		}
	}
	groups, err := r.Cgroups.Find(ctx, id)
	for _, g := range groups {
		err = errors.Join(err, r.Cgroups.Remove(ctx, g))
	}
	cids := []string{b.ContainerID}
	if b.ContainerID == "" {
		cids = r.recordedContainers(id)
		err = errors.Join(err, r.Network.Remove(ctx, id, nil), r.Files.Remove(ctx, id), r.Namespaces.Remove(ctx, id))
	}
	for _, cid := range cids {
		c := newContainer(newPod(spec.Sandbox{ID: b.SandboxID}), spec.Container{ID: cid, SandboxID: b.SandboxID})
		err = errors.Join(err, r.killShim(ctx, c), removeEmpty(r.Layout.Rootfs(cid)))
		if len(cid) == 64 {
			if rerr := os.Remove(r.Layout.ShimSocket(cid)); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
				err = errors.Join(err, rerr)
			}
		}
	}
	return err
}

func (r *Runtime) recordedContainers(sid string) []string {
	entries, _ := os.ReadDir(filepath.Join(r.Layout.Sandbox(sid), "containers"))
	var ids []string
	for _, e := range entries {
		ids = append(ids, e.Name())
	}
	return ids
}

// removeStrays unpins namespaces of sandboxes that have no record.
func (r *Runtime) removeStrays(ctx context.Context) {
	pins, _ := os.ReadDir(filepath.Join(r.Layout.Run, "ns"))
	for _, e := range pins {
		if r.pod(e.Name()) != nil {
			continue
		}
		if err := r.Namespaces.Remove(ctx, e.Name()); err != nil {
			r.Log.Error("namespaces of a sandbox without a record are still pinned", "sandbox", e.Name(), "error", err)
		}
	}
}
