package sandbox

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"

	"github.com/runtimed/runtimed/pkg/sandbox/process"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/state"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

// podFlow is a sandbox from nothing to ready, and back. The order is:
//   - record first and last: whatever exists is found from it;
//   - cgroup before any process;
//   - namespaces before the network that goes into one of them;
//   - network before files, which name the pod's addresses;
//   - init behind all that it joins;
//   - ready last; its undo, the first on the way down, ends every process, so that no step below it can be held up by
//     one, nor hold up the killing.
func (r *Runtime) podFlow(p *pod) step.Flow {
	return step.Flow{Name: "sandbox", ID: p.spec.ID, Observe: r.Observe, Steps: []step.Step{
		{Name: "record",
			Do:   func(context.Context) error { return r.store.AddSandbox(p.spec) },
			Undo: func(context.Context) error { return r.store.RemoveSandbox(p.spec.ID) }},
		{Name: "cgroup",
			Do:   func(ctx context.Context) error { return r.Cgroups.Create(ctx, p.spec.CgroupPath, podLimits(p.spec)) },
			Undo: func(ctx context.Context) error { return r.Cgroups.Remove(ctx, p.spec.CgroupPath) }},
		{Name: "namespaces",
			Do:   func(ctx context.Context) error { return r.Namespaces.Create(ctx, namespaceRequest(p.spec)) },
			Undo: func(ctx context.Context) error { return r.Namespaces.Remove(ctx, p.spec.ID) }},
		{Name: "network",
			Do:   func(ctx context.Context) error { return r.connect(ctx, p) },
			Undo: func(ctx context.Context) error { return r.disconnect(ctx, p) }},
		{Name: "files",
			Do:   func(ctx context.Context) error { return r.Files.Create(ctx, filesRequest(p)) },
			Undo: func(ctx context.Context) error { return r.Files.Remove(ctx, p.spec.ID) }},
		{Name: "init",
			Do:   func(ctx context.Context) error { return r.startInit(ctx, p) },
			Undo: func(ctx context.Context) error { return r.Cgroups.Kill(ctx, p.spec.CgroupPath) }},
		{Name: "ready",
			Do:   func(context.Context) error { return r.markReady(p) },
			Undo: func(ctx context.Context) error { return r.quiesce(ctx, p) }},
	}}
}

// stopFlow is the part of podFlow that a stop takes down: the record stays, and so does the group, which names what is
// left to kill should a stop fail half-way.
func (r *Runtime) stopFlow(p *pod) step.Flow {
	f := r.podFlow(p)
	f.Steps = f.Steps[2:]
	return f
}

// podLimits are for a group of our own alone: a parent that the request names is its owner's to limit.
func podLimits(s spec.Sandbox) *spec.Resources {
	if s.Request.CgroupParent != "" {
		return nil
	}
	return s.Request.Resources
}

func ownNetwork(s spec.Sandbox) bool {
	return s.Request.Security.Namespaces.Network != spec.NamespaceNode
}

func namespaceRequest(s spec.Sandbox) NamespaceRequest {
	ns := s.Request.Security.Namespaces
	return NamespaceRequest{
		SandboxID: s.ID,
		User:      s.Profile.UserNamespace, UIDs: s.Profile.UIDs, GIDs: s.Profile.GIDs,
		Net: ownNetwork(s),
		IPC: ns.IPC != spec.NamespaceNode,
		// The name of a pod on the node's network is the node's.
		UTS: ownNetwork(s), Hostname: hostname(s),
		Sysctls: s.Profile.Sysctls,
	}
}

// hostname is what the pod asked for, or the beginning of its id.
func hostname(s spec.Sandbox) string {
	if !ownNetwork(s) {
		return ""
	}
	if s.Request.Hostname != "" {
		return s.Request.Hostname
	}
	return s.ID[:12]
}

func filesRequest(p *pod) FilesRequest {
	s := p.spec
	f := FilesRequest{
		SandboxID: s.ID, Hostname: hostname(s), DNS: s.Request.DNS,
		RootUID:     hostID(s.Profile.UIDs),
		RootGID:     hostID(s.Profile.GIDs),
		HostNetwork: !ownNetwork(s),
		HostIPC:     s.Request.Security.Namespaces.IPC == spec.NamespaceNode,
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.network != nil {
		f.Addresses = p.network.Addresses
	}
	return f
}

// hostID is the node's id of id 0 under the maps; the first mapped one where 0 has none; 0 without maps.
func hostID(maps []spec.IDMapping) uint32 {
	for _, m := range maps {
		if m.ContainerID == 0 {
			return m.HostID
		}
	}
	if len(maps) > 0 {
		return maps[0].HostID
	}
	return 0
}

func (r *Runtime) connect(ctx context.Context, p *pod) error {
	if !ownNetwork(p.spec) {
		return nil
	}
	result, err := r.Network.Add(ctx, NetworkRequest{
		SandboxID: p.spec.ID, Netns: r.Layout.NetnsPin(p.spec.ID), Ports: p.spec.Request.Ports,
		Metadata: p.spec.Request.Metadata, Annotations: p.spec.Request.Annotations, DNS: p.spec.Request.DNS,
	})
	if err != nil {
		return err
	}
	result.Version = spec.RecordVersion
	p.mu.Lock()
	p.network = &result
	p.mu.Unlock()
	return state.WriteOnce(r.Layout.Sandbox(p.spec.ID), spec.NetworkFile, result)
}

func (r *Runtime) disconnect(ctx context.Context, p *pod) error {
	if !ownNetwork(p.spec) {
		return nil
	}
	p.mu.Lock()
	last := p.network
	p.mu.Unlock()
	if err := r.Network.Remove(ctx, p.spec.ID, last); err != nil {
		return err
	}
	p.mu.Lock()
	p.network = nil
	p.mu.Unlock()
	return nil
}

func (r *Runtime) startInit(ctx context.Context, p *pod) error {
	if p.spec.Request.Security.Namespaces.PID != spec.NamespacePod {
		return nil
	}
	init, err := r.Namespaces.StartInit(ctx, InitRequest{SandboxID: p.spec.ID, CgroupPath: spec.InitGroup(p.spec.CgroupPath, p.spec.ID)})
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.status.Init = &init
	p.mu.Unlock()
	return nil
}

func (r *Runtime) markReady(p *pod) error {
	if err := r.setStatus(p, func(s *spec.SandboxStatus) { s.ReadyAt = r.Now().UnixNano() }); err != nil {
		return err
	}
	r.watchInit(p)
	return nil
}

// setStatus changes the recorded status and, once that is written, the remembered one.
func (r *Runtime) setStatus(p *pod, change func(*spec.SandboxStatus)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := p.status
	next.Version = spec.RecordVersion
	change(&next)
	if err := state.Replace(r.Layout.Sandbox(p.spec.ID), spec.StatusFile, next); err != nil {
		return err
	}
	p.status = next
	return nil
}

// quiesce makes the sandbox NOTREADY and ends every process in it.
func (r *Runtime) quiesce(ctx context.Context, p *pod) error {
	r.markStopped(p)
	var kills errgroup.Group
	for _, c := range p.list() {
		kills.Go(func() error { return r.kill(ctx, c) })
	}
	return errors.Join(kills.Wait(), r.Cgroups.Kill(ctx, p.spec.CgroupPath))
}

// markStopped never fails: with a full disk the sandbox is NOTREADY in memory, and a daemon that restarts before the
// removal finds its processes gone and stops it again.
func (r *Runtime) markStopped(p *pod) {
	p.stop()
	for _, c := range p.list() {
		c.halt()
	}
	p.mu.Lock()
	stopped := p.status.StoppedAt != 0
	p.mu.Unlock()
	if stopped {
		return
	}
	now, first := r.Now().UnixNano(), false
	stop := func(s *spec.SandboxStatus) {
		if first = s.StoppedAt == 0; first {
			s.StoppedAt = now
		}
	}
	if err := r.setStatus(p, stop); err != nil {
		p.mu.Lock()
		stop(&p.status)
		p.mu.Unlock()
		r.Log.Warn("a stopped sandbox could not be recorded as such", "sandbox", p.spec.ID, "error", err)
	}
	if first {
		r.publish(p, p.spec.ID, spec.EventStopped)
	}
}

// watchInit makes the sandbox NOTREADY when its own init dies: its PID namespace is dead then, and takes no process.
func (r *Runtime) watchInit(p *pod) {
	p.mu.Lock()
	init := p.status.Init
	p.mu.Unlock()
	if init == nil {
		return
	}
	h, err := process.Open(*init)
	if err != nil {
		r.markStopped(p)
		return
	}
	r.background.Go(func() {
		defer h.Close()
		if h.Wait(r.quit) == nil {
			r.markStopped(p)
		}
	})
}
