package fake

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// statsOf are made up, and grow with time.
func statsOf(v spec.ContainerView) spec.ContainerStats {
	s := spec.ContainerStats{
		Container: v, FsMount: "/", Disk: &spec.DiskUse{At: time.Now(), Bytes: 8192, Inodes: 2},
	}
	if v.State != spec.ContainerRunning {
		return s
	}
	nano, fds := uint64(250e6), uint64(5)
	s.Group, s.NanoCores = group(), &nano
	s.Detail = &spec.ContainerDetail{
		Processes: 2, Descriptors: &fds, Sockets: &fds, SoftDescriptors: &fds,
		FileSystem: &spec.FileSystem{Device: "/dev/fake", Bytes: 1 << 30, Inodes: 1000, FreeInodes: 900},
	}
	return s
}

func group() *spec.GroupUse {
	stalls := &spec.Stalls{Some: spec.Stall{Total: 3 * time.Second, Avg10: 1.5}, Full: spec.Stall{Total: time.Second}}
	return &spec.GroupUse{
		At:  time.Now(),
		CPU: spec.CPUUse{Total: time.Duration(time.Now().UnixNano() % 1e15), User: time.Second, System: 2 * time.Second, Periods: 3},
		Memory: &spec.MemoryUse{
			Usage: 64 << 20, Limit: 128 << 20, MaxUsage: 70 << 20, RSS: 32 << 20, Cache: 16 << 20, InactiveFile: 4 << 20, PageFaults: 7, MajorFaults: 1,
		},
		Swap: &spec.SwapUse{Limit: 0}, Tasks: &spec.TasksUse{Current: 4, Limit: spec.Unlimited},
		CPUStall: stalls, MemoryStall: stalls, IOStall: stalls,
		Devices: []spec.DeviceUse{{Device: "/dev/fake", Major: 8, ReadBytes: 1, WriteBytes: 2, ReadCount: 3, WriteCount: 4}},
	}
}

// ContainerStats makes some up.
func (r *Runtime) ContainerStats(ctx context.Context, id string) (spec.ContainerStats, error) {
	var out spec.ContainerStats
	err := r.with(ctx, "ContainerStats", id, func(v *spec.ContainerView) error { out = statsOf(*v); return nil })
	return out, err
}

// ListContainerStats makes some up for the running containers that match.
func (r *Runtime) ListContainerStats(ctx context.Context, f spec.ContainerFilter) ([]spec.ContainerStats, error) {
	f.State = spec.ContainerRunning
	views, err := r.Containers(ctx, f)
	var out []spec.ContainerStats
	for _, v := range views {
		out = append(out, statsOf(v))
	}
	slices.SortFunc(out, func(a, b spec.ContainerStats) int { return cmp.Compare(a.Container.Spec.ID, b.Container.Spec.ID) })
	return out, err
}

func sandboxStats(v spec.SandboxView) spec.SandboxStats {
	s := spec.SandboxStats{Sandbox: v}
	if v.State != spec.SandboxReady {
		return s
	}
	nano, processes := uint64(300e6), uint64(3)
	s.Group, s.NanoCores, s.Processes, s.LinksAt = group(), &nano, &processes, time.Now()
	s.Links = []spec.LinkUse{
		{Name: "eth0", RxBytes: 1, RxPackets: 2, RxErrors: 3, RxDropped: 4, TxBytes: 5, TxPackets: 6, TxErrors: 7, TxDropped: 8}, {Name: "more"},
	}
	for _, c := range v.Containers {
		if c.State == spec.ContainerRunning {
			s.Containers = append(s.Containers, statsOf(c))
		}
	}
	return s
}

// SandboxStats makes some up.
func (r *Runtime) SandboxStats(ctx context.Context, id string) (spec.SandboxStats, error) {
	v, err := r.Sandbox(ctx, id)
	return sandboxStats(v), err
}

// ListSandboxStats makes some up for the ready sandboxes that match.
func (r *Runtime) ListSandboxStats(ctx context.Context, f spec.SandboxFilter) ([]spec.SandboxStats, error) {
	f.State = spec.SandboxReady
	views, err := r.Sandboxes(ctx, f)
	var out []spec.SandboxStats
	for _, v := range views {
		out = append(out, sandboxStats(v))
	}
	return out, err
}

// SandboxMetrics is ListSandboxStats of all.
func (r *Runtime) SandboxMetrics(ctx context.Context) ([]spec.SandboxStats, error) {
	return r.ListSandboxStats(ctx, spec.SandboxFilter{})
}
