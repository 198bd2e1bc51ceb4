package sandbox

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"time"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/security"
)

// undoTime bounds a teardown that no caller waits for. What is left then stays recorded, and the next Stop or Remove
// tries again.
const undoTime = 2 * time.Minute

// RunSandbox makes a sandbox and returns when it is ready. A call with the same metadata joins one in flight and gets
// the same id; one that comes after it gets the id of the ready sandbox. On error nothing is left.
func (r *Runtime) RunSandbox(ctx context.Context, req spec.SandboxRequest) (string, error) {
	if err := r.checkHandler(req.Handler); err != nil {
		return "", err
	}
	key := req.Metadata.Key()
	return r.flights.do(ctx, "sandbox "+key, func(ctx context.Context) (string, error) {
		if id, err := r.taken(key, req.Metadata); id != "" || err != nil {
			return id, err
		}
		return r.runSandbox(ctx, req)
	})
}

func (r *Runtime) checkHandler(name string) error {
	for _, h := range r.Handlers {
		if h.Name == name {
			return nil
		}
	}
	if name == "" {
		return nil
	}
	return spec.NotFoundf("runtime handler %q is not known here", name)
}

// taken answers for a sandbox that has the key already.
func (r *Runtime) taken(key string, m spec.Metadata) (string, error) {
	r.mu.Lock()
	p := r.pods[r.podKeys[key]]
	r.mu.Unlock()
	if p == nil {
		return "", nil
	}
	if p.state(r.bootID) == spec.SandboxReady {
		return p.spec.ID, nil
	}
	return "", spec.Errorf(errdefs.ErrAlreadyExists,
		"sandbox %q of namespace %q, attempt %d, is there already and stopped (%s): remove it, or ask for another attempt",
		m.Name, m.Namespace, m.Attempt, p.spec.ID)
}

func (r *Runtime) runSandbox(ctx context.Context, req spec.SandboxRequest) (string, error) {
	profile, err := security.ResolveSandbox(req, r.Node)
	if err != nil {
		return "", err
	}
	id := newID()
	group, err := r.groups().Pod(req.CgroupParent, id)
	if err != nil {
		return "", err
	}
	p := newPod(spec.Sandbox{
		Version: spec.RecordVersion, ID: id, CreatedAt: r.Now().UnixNano(), BootID: r.bootID,
		Request: req, Profile: profile, CgroupPath: group,
	})
	release, err := p.op.acquire(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	if err := r.register(p); err != nil {
		return "", err
	}
	flow := r.podFlow(p)
	err = flow.Run(ctx)
	if err == nil {
		r.appear(p)
		return id, nil
	}
	undo, cancel := detached(ctx)
	defer cancel()
	if uerr := flow.Teardown(undo); uerr != nil {
		r.appear(p) // as NOTREADY: it is there to be stopped and removed again
		r.Log.Error("a sandbox that could not be made could not be undone either", "sandbox", id, "error", err, "undo", uerr)
		return "", err
	}
	r.forget(p)
	return "", err
}

func (r *Runtime) groups() spec.Groups {
	return spec.Groups{Root: r.CgroupRoot, Systemd: r.CgroupSystemd}
}

// register makes the pod known, hidden, with a range of ids of its own where it needs one.
func (r *Runtime) register(p *pod) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.reserveIDs(p); err != nil {
		return err
	}
	r.pods[p.spec.ID] = p
	r.podKeys[p.spec.Request.Metadata.Key()] = p.spec.ID
	return nil
}

// forget makes name and range free: nothing of the sandbox is left.
func (r *Runtime) forget(p *pod) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pods, p.spec.ID)
	if key := p.spec.Request.Metadata.Key(); r.podKeys[key] == p.spec.ID {
		delete(r.podKeys, key)
	}
}

// StopSandbox ends every process of the sandbox at once and takes its network and namespaces down. It may be called any
// number of times. An error means that something is left, never that a process still runs unless it says so.
func (r *Runtime) StopSandbox(ctx context.Context, id string) error {
	p, err := r.findPod(id)
	if err != nil {
		return err
	}
	return r.once(ctx, "stop "+p.spec.ID, func(ctx context.Context) error { return r.stopPod(ctx, p) })
}

func (r *Runtime) stopPod(ctx context.Context, p *pod) error {
	// The processes first, without the lock: what holds it gives up when it sees the stop.
	if err := r.quiesce(ctx, p); err != nil {
		return err
	}
	release, err := p.op.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	return r.stopFlow(p).Teardown(ctx)
}

// RemoveSandbox stops the sandbox where it must, removes its containers and then itself.
func (r *Runtime) RemoveSandbox(ctx context.Context, id string) error {
	p, err := r.findPod(id)
	if err != nil {
		return err
	}
	return r.once(ctx, "remove "+p.spec.ID, func(ctx context.Context) error { return r.removePod(ctx, p) })
}

func (r *Runtime) removePod(ctx context.Context, p *pod) error {
	if err := r.stopPod(ctx, p); err != nil {
		return err
	}
	for _, c := range p.list() {
		if err := r.removeContainer(ctx, c); err != nil {
			return err
		}
	}
	release, err := p.op.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := r.podFlow(p).Teardown(ctx); err != nil {
		return err
	}
	r.forget(p)
	r.publish(p, p.spec.ID, spec.EventDeleted)
	return nil
}

// once joins equal calls and lets the work go on when its callers leave: a way down that has begun is finished.
func (r *Runtime) once(ctx context.Context, key string, fn func(context.Context) error) error {
	_, err := r.flights.do(ctx, key, func(work context.Context) (string, error) {
		undo, cancel := detached(work)
		defer cancel()
		return "", fn(undo)
	})
	return err
}

func detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), undoTime)
}

// newID is 64 hex digits. The kernel's generator does not fail (getrandom(2)).
func newID() string {
	var b [32]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
