package translate

import (
	"maps"
	"time"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// ContainerStatsFilter translates a filter; nil selects all.
func ContainerStatsFilter(f *v1.ContainerStatsFilter) (spec.ContainerFilter, error) {
	var c check
	return spec.ContainerFilter{
		ID:        c.text("filter.id", f.GetId(), maxName),
		SandboxID: c.text("filter.pod_sandbox_id", f.GetPodSandboxId(), maxName),
		Labels:    maps.Clone(c.opaque("filter.label_selector", f.GetLabelSelector())),
	}, c.err
}

// SandboxStatsFilter translates a filter; nil selects all.
func SandboxStatsFilter(f *v1.PodSandboxStatsFilter) (spec.SandboxFilter, error) {
	var c check
	return spec.SandboxFilter{
		ID:     c.text("filter.id", f.GetId(), maxName),
		Labels: maps.Clone(c.opaque("filter.label_selector", f.GetLabelSelector())),
	}, c.err
}

// ContainerStats translates what a container uses. Of one that does not run there is its writable layer alone.
func ContainerStats(s spec.ContainerStats) *v1.ContainerStats {
	r := s.Container.Spec.Request
	out := &v1.ContainerStats{Attributes: &v1.ContainerAttributes{
		Id: s.Container.Spec.ID, Metadata: &v1.ContainerMetadata{Name: r.Name, Attempt: r.Attempt},
		Labels: r.Labels, Annotations: r.Annotations,
	}}
	if g := s.Group; g != nil {
		out.Cpu, out.Memory, out.Swap, out.Io = cpu(g, s.NanoCores), memory(g), swap(g), io(g)
	}
	if d := s.Disk; d != nil {
		out.WritableLayer = &v1.FilesystemUsage{
			Timestamp: d.At.UnixNano(), FsId: &v1.FilesystemIdentifier{Mountpoint: s.FsMount},
			UsedBytes: number(d.Bytes), InodesUsed: number(d.Inodes),
		}
	}
	return out
}

// SandboxStats translates what a sandbox uses. One that is not ready has nothing but its name.
func SandboxStats(s spec.SandboxStats) *v1.PodSandboxStats {
	r := s.Sandbox.Spec.Request
	linux := &v1.LinuxPodSandboxStats{}
	if g := s.Group; g != nil {
		linux.Cpu, linux.Memory, linux.Io = cpu(g, s.NanoCores), memory(g), io(g)
		if s.Processes != nil {
			linux.Process = &v1.ProcessUsage{Timestamp: g.At.UnixNano(), ProcessCount: number(*s.Processes)}
		}
	}
	if s.Links != nil {
		linux.Network = network(s.LinksAt, s.Links)
	}
	for _, c := range s.Containers {
		linux.Containers = append(linux.Containers, ContainerStats(c))
	}
	return &v1.PodSandboxStats{
		Attributes: &v1.PodSandboxAttributes{
			Id: s.Sandbox.Spec.ID, Metadata: metadataBack(r.Metadata), Labels: r.Labels, Annotations: r.Annotations,
		},
		Linux: linux,
	}
}

func number(n uint64) *v1.UInt64Value { return &v1.UInt64Value{Value: n} }

func cpu(g *spec.GroupUse, nano *uint64) *v1.CpuUsage {
	out := &v1.CpuUsage{Timestamp: g.At.UnixNano(), UsageCoreNanoSeconds: number(uint64(g.CPU.Total)), Psi: stalls(g.CPUStall)}
	if nano != nil {
		out.UsageNanoCores = number(*nano)
	}
	return out
}

// memory: what is available is said only where there is a limit.
func memory(g *spec.GroupUse) *v1.MemoryUsage {
	m := g.Memory
	if m == nil {
		return nil
	}
	out := &v1.MemoryUsage{
		Timestamp: g.At.UnixNano(), WorkingSetBytes: number(m.WorkingSet()), UsageBytes: number(m.Usage), RssBytes: number(m.RSS),
		PageFaults: number(m.PageFaults), MajorPageFaults: number(m.MajorFaults), Psi: stalls(g.MemoryStall),
	}
	if m.Limit != spec.Unlimited {
		out.AvailableBytes = number(m.Limit - min(m.Limit, m.WorkingSet()))
	}
	return out
}

func swap(g *spec.GroupUse) *v1.SwapUsage {
	s := g.Swap
	if s == nil {
		return nil
	}
	out := &v1.SwapUsage{Timestamp: g.At.UnixNano(), SwapUsageBytes: number(s.Usage)}
	if s.Limit != spec.Unlimited {
		out.SwapAvailableBytes = number(s.Limit - min(s.Limit, s.Usage))
	}
	return out
}

func io(g *spec.GroupUse) *v1.IoUsage {
	return &v1.IoUsage{Timestamp: g.At.UnixNano(), Psi: stalls(g.IOStall)}
}

func stalls(s *spec.Stalls) *v1.PsiStats {
	if s == nil {
		return nil
	}
	one := func(t spec.Stall) *v1.PsiData {
		return &v1.PsiData{Total: uint64(t.Total), Avg10: t.Avg10, Avg60: t.Avg60, Avg300: t.Avg300}
	}
	return &v1.PsiStats{Some: one(s.Some), Full: one(s.Full)}
}

// network: the first link is the default one.
func network(at time.Time, links []spec.LinkUse) *v1.NetworkUsage {
	out := &v1.NetworkUsage{Timestamp: at.UnixNano()}
	for i, l := range links {
		u := &v1.NetworkInterfaceUsage{
			Name: l.Name, RxBytes: number(l.RxBytes), RxErrors: number(l.RxErrors), TxBytes: number(l.TxBytes), TxErrors: number(l.TxErrors),
		}
		if i == 0 {
			out.DefaultInterface = u
			continue
		}
		out.Interfaces = append(out.Interfaces, u)
	}
	return out
}
