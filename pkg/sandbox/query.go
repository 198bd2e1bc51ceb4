package sandbox

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Sandbox is one sandbox by id or unique prefix.
func (r *Runtime) Sandbox(_ context.Context, id string) (spec.SandboxView, error) {
	p, err := r.findPod(id)
	if err != nil {
		return spec.SandboxView{}, err
	}
	v := r.podView(p)
	v.Pins = r.pins(v)
	return v, nil
}

// pins are the namespaces that podFlow has made.
func (r *Runtime) pins(v spec.SandboxView) map[string]string {
	if v.State != spec.SandboxReady {
		return nil
	}
	made, pins := namespaceRequest(v.Spec), map[string]string{}
	for kind, has := range map[string]bool{"user": made.User, "ipc": made.IPC, "uts": made.UTS} {
		if has {
			pins[kind] = r.Layout.Pin(v.Spec.ID, kind)
		}
	}
	if made.Net {
		pins["network"] = r.Layout.NetnsPin(v.Spec.ID)
	}
	if v.Status.Init != nil {
		pins["pid"] = fmt.Sprintf("/proc/%d/ns/pid", v.Status.Init.PID)
	}
	return pins
}

// Sandboxes lists what matches, oldest first and without their containers. An id that is not known matches nothing.
func (r *Runtime) Sandboxes(_ context.Context, f spec.SandboxFilter) ([]spec.SandboxView, error) {
	return r.sandboxes(f, r.podAlone), nil
}

func (r *Runtime) sandboxes(f spec.SandboxFilter, view func(*pod) spec.SandboxView) []spec.SandboxView {
	var views []spec.SandboxView
	for _, p := range r.visiblePods() {
		if !strings.HasPrefix(p.spec.ID, f.ID) || !hasLabels(p.spec.Request.Labels, f.Labels) {
			continue
		}
		if v := view(p); f.State == "" || v.State == f.State {
			views = append(views, v)
		}
	}
	slices.SortFunc(views, func(a, b spec.SandboxView) int { return cmp.Compare(a.Spec.CreatedAt, b.Spec.CreatedAt) })
	return views
}

// Container is one container by id or unique prefix.
func (r *Runtime) Container(_ context.Context, id string) (spec.ContainerView, error) {
	c, err := r.findContainer(id)
	if err != nil {
		return spec.ContainerView{}, err
	}
	v := c.view()
	r.kernelLimits(&v, c)
	return v, nil
}

// Containers lists what matches, oldest first.
func (r *Runtime) Containers(_ context.Context, f spec.ContainerFilter) ([]spec.ContainerView, error) {
	r.mu.Lock()
	all := make([]*container, 0, len(r.containers))
	for _, c := range r.containers {
		all = append(all, c)
	}
	r.mu.Unlock()
	oldestFirst(all)
	var views []spec.ContainerView
	for _, c := range all {
		if !strings.HasPrefix(c.spec.ID, f.ID) || !strings.HasPrefix(c.spec.SandboxID, f.SandboxID) ||
			!hasLabels(c.spec.Request.Labels, f.Labels) {
			continue
		}
		if v := c.view(); f.State == "" || v.State == f.State {
			views = append(views, v)
		}
	}
	return views, nil
}

// oldestFirst sorts before there are views, which are large.
func oldestFirst(all []*container) {
	slices.SortFunc(all, func(a, b *container) int { return cmp.Compare(a.spec.CreatedAt, b.spec.CreatedAt) })
}

func hasLabels(have, want map[string]string) bool {
	for k, v := range want {
		if got, ok := have[k]; !ok || got != v {
			return false
		}
	}
	return true
}

func (c *container) view() spec.ContainerView {
	f := c.read()
	v := spec.ContainerView{Spec: c.spec, Facts: f, State: f.State(), Resources: c.spec.Request.Resources}
	if f.Status.Resources != nil {
		v.Resources = f.Status.Resources
	}
	return v
}

func (r *Runtime) podView(p *pod) spec.SandboxView {
	v := r.podAlone(p)
	all := p.list()
	oldestFirst(all)
	for _, c := range all {
		v.Containers = append(v.Containers, c.view())
	}
	return v
}

// podAlone is a picture of the sandbox without its containers.
func (r *Runtime) podAlone(p *pod) spec.SandboxView {
	v := spec.SandboxView{Spec: p.spec, Timestamp: r.Now()} // taken before the facts, so that it is never newer than they
	p.mu.Lock()
	v.Status = p.status
	if p.network != nil {
		v.Network = *p.network
	}
	p.mu.Unlock()
	v.State = v.Status.State(p.spec.BootID, r.bootID)
	return v
}

func (p *pod) show() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.visible = true
}

func (r *Runtime) visiblePods() []*pod {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*pod
	for _, p := range r.pods {
		p.mu.Lock()
		if p.visible {
			all = append(all, p)
		}
		p.mu.Unlock()
	}
	return all
}

func (r *Runtime) findPod(id string) (*pod, error) {
	all := map[string]*pod{}
	for _, p := range r.visiblePods() {
		all[p.spec.ID] = p
	}
	return find("sandbox", all, id)
}

func (r *Runtime) findContainer(id string) (*container, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return find("container", r.containers, id)
}

// find looks an object up by its id or a unique prefix of it: crictl prints 13 digits and sends them back.
func find[T any](what string, all map[string]T, id string) (T, error) {
	var found T
	if v, ok := all[id]; ok {
		return v, nil
	}
	if id == "" {
		return found, spec.Invalidf("the %s's id is missing", what)
	}
	matches := 0
	for full, v := range all {
		if strings.HasPrefix(full, id) {
			found = v
			matches++
		}
	}
	var none T
	switch matches {
	case 0:
		return none, spec.NotFoundf("there is no %s %q", what, id)
	case 1:
		return found, nil
	default:
		return none, spec.Invalidf("%q is the beginning of %d %s ids: give more of it", id, matches, what)
	}
}

// ImagesInUse is what all container records hold of their images.
func (r *Runtime) ImagesInUse() []spec.ImageUse {
	r.mu.Lock()
	defer r.mu.Unlock()
	uses := make([]spec.ImageUse, 0, len(r.containers))
	for _, c := range r.containers {
		uses = append(uses, c.spec.Image)
		for _, u := range c.spec.MountImages {
			uses = append(uses, u)
		}
	}
	return uses
}

// ReopenLog makes the container's shim write to a new file at the log's path.
func (r *Runtime) ReopenLog(ctx context.Context, id string) error {
	c, err := r.findContainer(id)
	if err != nil {
		return err
	}
	if c.read().State() != spec.ContainerRunning {
		return spec.Preconditionf("container %s is not running: its log is complete", c.spec.ID)
	}
	return r.Shims.ReopenLog(ctx, r.Layout, c.spec.ID)
}

// UsePodCIDRs passes the subnets on that the cluster gave this node.
func (r *Runtime) UsePodCIDRs(ctx context.Context, cidrs []netip.Prefix) error {
	return r.Network.UsePodCIDRs(ctx, cidrs)
}

// Status is made from memory and waits for nothing.
func (r *Runtime) Status(_ context.Context, verbose bool) spec.RuntimeStatus {
	s := spec.RuntimeStatus{Runtime: spec.Condition{OK: true}, Network: r.Network.Condition(), Handlers: r.Handlers, Features: r.Features}
	if verbose {
		layout, _ := json.Marshal(r.Layout) // plain strings always marshal
		s.Info = map[string]string{"layout": string(layout)}
	}
	return s
}
