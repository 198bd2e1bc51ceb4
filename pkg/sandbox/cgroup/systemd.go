package cgroup

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"strings"

	"github.com/containerd/cgroups/v3/cgroup2"
	"github.com/containerd/errdefs"
	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/systemd"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

// units asks systemd for slices and scopes. Paths are of groups that spec.Unit takes.
type units interface {
	// start makes a slice, or a scope around a process, and waits until its group is there. A slice that is there is fine.
	start(path string, pid int) error
	// set gives a unit its limits: as properties, so that a daemon-reload keeps them, and in the group's files.
	set(path string, r *cgroups.Resources) error
	// stop ends the unit, with what is in it, and removes its group. A unit that is not there is done.
	stop(path string) error
}

// WithSystemd returns a manager that has systemd make the groups that are slices and scopes by name (spec.Unit). Only on
// cgroup v2: see Node.Driver.
func (m *Manager) WithSystemd() *Manager {
	return &Manager{node: m.node, observe: m.observe, units: library{}}
}

// unit tells whether the group at path is systemd's to make.
func (m *Manager) unit(path string) bool {
	_, _, ok := spec.Unit(path)
	return ok && m.units != nil
}

// unitFlow is flow for a slice, and for the removal of a scope.
func (m *Manager) unitFlow(path string, r *spec.Resources) step.Flow {
	dir := filepath.Join(m.node.Unified, path)
	return step.Flow{Name: "cgroup", ID: path, Observe: m.observe, Steps: []step.Step{
		{Name: "unit", Do: func(ctx context.Context) error { return m.startSlice(ctx, path, r) },
			Undo: func(ctx context.Context) error { return m.stopUnit(ctx, path, dir) }},
		{Name: "children", Do: func(context.Context) error { return m.handOn(path) },
			Undo: func(context.Context) error { return nil }},
		{Name: "processes", Undo: func(ctx context.Context) error { return m.Kill(ctx, path) }},
	}}
}

func (m *Manager) startSlice(ctx context.Context, path string, r *spec.Resources) error {
	err := await(ctx, func() error {
		if err := m.units.start(path, -1); err != nil {
			return err
		}
		return m.units.set(path, unitResources(r))
	})
	return unitError("make", path, err)
}

// stopUnit needs no word with systemd where the group is gone: it ends a scope with the last process, and collects it.
func (m *Manager) stopUnit(ctx context.Context, path, dir string) error {
	if !exists(dir) {
		return nil
	}
	if err := await(ctx, func() error { return m.units.stop(path) }); err != nil {
		return unitError("stop", path, err)
	}
	return m.removeTrees(ctx, []string{dir})
}

// await returns when f has, or when ctx ends: what is asked of systemd cannot be taken back, and an undo finds it by name.
func await(ctx context.Context, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func unitError(what, path string, err error) error {
	if err == nil {
		return nil
	}
	kind := kindOf(err)
	var refused godbus.Error
	if errors.As(err, &refused) && (strings.HasSuffix(refused.Name, ".InvalidArgs") || strings.HasSuffix(refused.Name, ".PropertyReadOnly")) {
		kind = errdefs.ErrInvalidArgument
	}
	return spec.Errorf(kind, "%s cgroup %q through systemd: %w", what, path, err)
}

// unitResources is what r means for a unit, in the library's words.
func unitResources(r *spec.Resources) *cgroups.Resources {
	out := &cgroups.Resources{SkipDevices: true}
	if r == nil {
		return out
	}
	if r.CPUShares > 0 {
		out.CpuWeight = cgroup2.ConvertCPUSharesToCgroupV2Value(uint64(r.CPUShares))
	}
	out.CpuQuota, out.CpuPeriod = r.CPUQuota, uint64(max(r.CPUPeriod, 0))
	out.CpusetCpus, out.CpusetMems = r.CPUSetCPUs, r.CPUSetMems
	out.Memory, out.MemorySwap = r.MemoryLimit, r.MemorySwap
	for _, h := range r.HugepageLimits {
		out.HugetlbLimit = append(out.HugetlbLimit, &cgroups.HugepageLimit{Pagesize: h.PageSize, Limit: h.Limit})
	}
	out.Unified = maps.Clone(r.Unified)
	if _, given := r.Unified[swapMax]; !given && r.MemorySwap > 0 && r.MemorySwap == r.MemoryLimit {
		// No swap at all is no property to the library, which takes 0 for "not asked": a daemon-reload would lift it.
		if out.Unified == nil {
			out.Unified = map[string]string{}
		}
		out.Unified[swapMax] = "0"
	}
	return out
}

const swapMax = "memory.swap.max"

// library is units through opencontainers/cgroups, which the creator uses for containers' scopes too.
type library struct{}

func (library) manager(path string) (*systemd.UnifiedManager, error) {
	name, slice, ok := spec.Unit(path)
	if !ok {
		return nil, spec.Invalidf("cgroup %q is neither a slice nor a scope", path)
	}
	c := &cgroups.Cgroup{Systemd: true, Name: name, Parent: slice, Resources: &cgroups.Resources{SkipDevices: true}}
	if stem, ok := strings.CutSuffix(name, ".scope"); ok {
		c.ScopePrefix, c.Name, _ = strings.Cut(stem, "-")
		// A scope that ended badly, such as by the OOM killer, would stay loaded until somebody resets it.
		c.SystemdProps = []dbus.Property{{Name: "CollectMode", Value: godbus.MakeVariant("inactive-or-failed")}}
	}
	return systemd.NewUnifiedManager(c, filepath.Join(mountRoot, path))
}

func (l library) start(path string, pid int) error {
	m, err := l.manager(path)
	if err != nil {
		return err
	}
	return m.Apply(pid)
}

func (l library) set(path string, r *cgroups.Resources) error {
	m, err := l.manager(path)
	if err != nil {
		return err
	}
	return m.Set(r)
}

func (l library) stop(path string) error {
	m, err := l.manager(path)
	if err != nil {
		return err
	}
	return m.Destroy()
}
