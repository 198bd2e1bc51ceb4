package fake

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Runtime implements cri.Runtime and control.Runtime.
type Runtime struct {
	// Hook is called first by every method with its name; its error is the method's. Nil does nothing.
	Hook func(ctx context.Context, method string) error
	// Exec answers ExecSync; nil answers with the command's words.
	Exec func(spec.ExecRequest) (spec.ExecResult, error)
	// Handlers of Status.
	Handlers []spec.Handler

	// EventsOf are sent to every reader of events, which then waits for its end.
	EventsOf []spec.Event

	mu         sync.Mutex
	next       int
	sandboxes  map[string]*spec.SandboxView
	containers map[string]*spec.ContainerView
	ended      map[string]chan struct{}
	// Signals are those that were sent, as "<container id> <number>".
	Signals []string
	// PodCIDRs are those that were told last.
	PodCIDRs []netip.Prefix
}

func (r *Runtime) enter(ctx context.Context, method string) error {
	if r.Hook != nil {
		if err := r.Hook(ctx, method); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sandboxes == nil {
		r.sandboxes, r.containers = map[string]*spec.SandboxView{}, map[string]*spec.ContainerView{}
		r.ended = map[string]chan struct{}{}
	}
	return nil
}

// newID is called with the lock held. Ids have 64 digits and differ in the first.
func (r *Runtime) newID() string {
	r.next++
	return fmt.Sprintf("%08x%056x", r.next, r.next)
}

func find[T any](all map[string]*T, what, id string) (*T, error) {
	var found *T
	for full, v := range all {
		if strings.HasPrefix(full, id) {
			if found != nil {
				return nil, spec.Invalidf("%q is the beginning of several %s ids", id, what)
			}
			found = v
		}
	}
	if found == nil {
		return nil, spec.NotFoundf("there is no %s %q", what, id)
	}
	return found, nil
}

// RunSandbox makes a ready sandbox, or returns the id of the one with that metadata.
func (r *Runtime) RunSandbox(ctx context.Context, req spec.SandboxRequest) (string, error) {
	if err := r.enter(ctx, "RunSandbox"); err != nil {
		return "", err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, v := range r.sandboxes {
		if v.Spec.Request.Metadata.Key() == req.Metadata.Key() {
			if v.State != spec.SandboxReady {
				return "", spec.Errorf(errdefs.ErrAlreadyExists, "sandbox %s is there already and stopped", id)
			}
			return id, nil
		}
	}
	known := req.Handler == ""
	for _, h := range r.Handlers {
		known = known || h.Name == req.Handler
	}
	if !known {
		return "", spec.NotFoundf("runtime handler %q is not known here", req.Handler)
	}
	now := time.Now()
	v := &spec.SandboxView{State: spec.SandboxReady}
	v.Spec = spec.Sandbox{ID: r.newID(), CreatedAt: now.UnixNano(), Request: req}
	v.Status.ReadyAt = now.UnixNano()
	v.Network.Addresses = []spec.Address{{IP: "10.0.0.2", Prefix: 24}, {IP: "fd00::2", Prefix: 64}}
	r.sandboxes[v.Spec.ID] = v
	return v.Spec.ID, nil
}

// StopSandbox ends the sandbox's containers too.
func (r *Runtime) StopSandbox(ctx context.Context, id string) error {
	if err := r.enter(ctx, "StopSandbox"); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	v, err := find(r.sandboxes, "sandbox", id)
	if err != nil {
		return err
	}
	v.State, v.Status.StoppedAt = spec.SandboxNotReady, time.Now().UnixNano()
	for _, c := range r.containers {
		if c.Spec.SandboxID == v.Spec.ID {
			r.end(c, 137)
		}
	}
	return nil
}

// RemoveSandbox removes the sandbox and its containers.
func (r *Runtime) RemoveSandbox(ctx context.Context, id string) error {
	if err := r.enter(ctx, "RemoveSandbox"); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	v, err := find(r.sandboxes, "sandbox", id)
	if err != nil {
		return err
	}
	for cid, c := range r.containers {
		if c.Spec.SandboxID == v.Spec.ID {
			r.end(c, 137)
			delete(r.containers, cid)
		}
	}
	delete(r.sandboxes, v.Spec.ID)
	return nil
}

// Sandbox returns one.
func (r *Runtime) Sandbox(ctx context.Context, id string) (spec.SandboxView, error) {
	if err := r.enter(ctx, "Sandbox"); err != nil {
		return spec.SandboxView{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	v, err := find(r.sandboxes, "sandbox", id)
	if err != nil {
		return spec.SandboxView{}, err
	}
	return r.view(v), nil
}

func (r *Runtime) view(v *spec.SandboxView) spec.SandboxView {
	out := *v
	out.Timestamp, out.Containers = time.Now(), nil
	for _, c := range r.containers {
		if c.Spec.SandboxID == v.Spec.ID {
			out.Containers = append(out.Containers, *c)
		}
	}
	return out
}

// Sandboxes lists what matches.
func (r *Runtime) Sandboxes(ctx context.Context, f spec.SandboxFilter) ([]spec.SandboxView, error) {
	if err := r.enter(ctx, "Sandboxes"); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	own := map[string][]spec.ContainerView{}
	for _, c := range r.containers {
		own[c.Spec.SandboxID] = append(own[c.Spec.SandboxID], *c)
	}
	var out []spec.SandboxView
	for id, v := range r.sandboxes {
		if strings.HasPrefix(id, f.ID) && (f.State == "" || f.State == v.State) && matches(v.Spec.Request.Labels, f.Labels) {
			view := *v
			view.Timestamp, view.Containers = time.Now(), own[id]
			out = append(out, view)
		}
	}
	return out, nil
}

// Fill makes n sandboxes with one created container each known, all with the same labels and annotations.
func (r *Runtime) Fill(n int, labels, annotations map[string]string) {
	r.enter(context.Background(), "Fill")
	r.mu.Lock()
	defer r.mu.Unlock()
	for range n {
		now := time.Now().UnixNano()
		s := &spec.SandboxView{State: spec.SandboxReady, Spec: spec.Sandbox{ID: r.newID(), CreatedAt: now}}
		s.Spec.Request.Metadata.Name, s.Spec.Request.Labels, s.Spec.Request.Annotations = s.Spec.ID, labels, annotations
		r.sandboxes[s.Spec.ID] = s
		c := &spec.ContainerView{State: spec.ContainerCreated, Spec: spec.Container{ID: r.newID(), SandboxID: s.Spec.ID, CreatedAt: now}}
		c.Spec.Request.Name, c.Spec.Request.Labels, c.Spec.Request.Annotations = "c", labels, annotations
		r.containers[c.Spec.ID], r.ended[c.Spec.ID] = c, make(chan struct{})
	}
}

func matches(have, want map[string]string) bool {
	for k, v := range want {
		if got, ok := have[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// UsePodCIDRs keeps the subnets.
func (r *Runtime) UsePodCIDRs(ctx context.Context, cidrs []netip.Prefix) error {
	if err := r.enter(ctx, "UsePodCIDRs"); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.PodCIDRs = cidrs
	return nil
}

// UpdateSandbox keeps what it is told.
func (r *Runtime) UpdateSandbox(ctx context.Context, id string, overhead, resources *spec.Resources) error {
	if err := r.enter(ctx, "UpdateSandbox"); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	v, err := find(r.sandboxes, "sandbox", id)
	if err == nil {
		v.Status.Overhead, v.Status.Resources = overhead, resources
	}
	return err
}

// Events sends EventsOf, and waits until ctx ends.
func (r *Runtime) Events(ctx context.Context, subscribed func(), each func(spec.Event) error) error {
	if err := r.enter(ctx, "Events"); err != nil {
		return err
	}
	subscribed()
	for _, e := range r.EventsOf {
		if err := each(e); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

// Status is good.
func (r *Runtime) Status(ctx context.Context, verbose bool) spec.RuntimeStatus {
	s := spec.RuntimeStatus{Runtime: spec.Condition{OK: true}, Network: spec.Condition{OK: true}, Handlers: r.Handlers}
	if err := r.enter(ctx, "Status"); err != nil {
		s.Runtime = spec.Condition{Reason: "Hook", Message: err.Error()}
	}
	if verbose {
		s.Info = map[string]string{"fake": "{}"}
	}
	return s
}
