package bundle

import (
	"maps"
	"slices"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// pidsMax is the cgroup v2 key that carries the limit of tasks in the CRI, which has no field for it.
const pidsMax = "pids.max"

func (in Input) resources() (*specs.LinuxResources, error) {
	r := in.Container.Request.Resources
	if r == nil {
		r = &spec.Resources{}
	}
	out := &specs.LinuxResources{Devices: in.deviceRules(), Memory: in.memory(r), CPU: cpu(r)}
	pids, err := in.pids(r)
	if err != nil {
		return nil, err
	}
	if pids != 0 {
		out.Pids = &specs.LinuxPids{Limit: &pids}
	}
	for _, h := range r.HugepageLimits {
		if in.NoHugepageLimit && h.Limit == 0 {
			continue
		}
		if in.NoHugepageLimit {
			return nil, spec.Preconditionf("a limit of %d bytes on huge pages of %s: this node has no hugetlb controller for containers", h.Limit, h.PageSize)
		}
		out.HugepageLimits = append(out.HugepageLimits, specs.LinuxHugepageLimit{Pagesize: h.PageSize, Limit: h.Limit})
	}
	if out.Unified, err = in.unified(r); err != nil {
		return nil, err
	}
	return out, nil
}

// deviceRules begin with the deny or allow of everything; libcontainer adds the standard devices behind them.
func (in Input) deviceRules() []specs.LinuxDeviceCgroup {
	if in.Container.Profile.Privileged {
		return []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
	}
	return append([]specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}, slices.Concat(in.DeviceRules, in.CDI.Rules)...)
}

// memory: swap counts together with memory (runtime-spec). A limit without a word on swap leaves none, as in
// containerd: otherwise the limit would only decide where the pages go.
func (in Input) memory(r *spec.Resources) *specs.LinuxMemory {
	if r.MemoryLimit == 0 && r.MemorySwap == 0 {
		return nil
	}
	m := &specs.LinuxMemory{}
	if r.MemoryLimit != 0 {
		m.Limit = &r.MemoryLimit
	}
	switch {
	case in.NoSwapLimit:
	case r.MemorySwap != 0:
		m.Swap = &r.MemorySwap
	case r.MemoryLimit > 0:
		m.Swap = &r.MemoryLimit
	}
	return m
}

func cpu(r *spec.Resources) *specs.LinuxCPU {
	if r.CPUPeriod == 0 && r.CPUQuota == 0 && r.CPUShares == 0 && r.CPUSetCPUs == "" && r.CPUSetMems == "" {
		return nil
	}
	c := &specs.LinuxCPU{Cpus: r.CPUSetCPUs, Mems: r.CPUSetMems}
	if r.CPUShares != 0 {
		shares := uint64(max(r.CPUShares, 0))
		c.Shares = &shares
	}
	if r.CPUQuota != 0 {
		c.Quota = &r.CPUQuota
	}
	if r.CPUPeriod != 0 {
		period := uint64(max(r.CPUPeriod, 0))
		c.Period = &period
	}
	return c
}

// pids is the limit of tasks: -1 for none at all, 0 where nobody said.
func (in Input) pids(r *spec.Resources) (int64, error) {
	v, ok := r.Unified[pidsMax]
	switch {
	case !ok:
		return in.PidsLimit, nil
	case v == "max":
		return -1, nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 1 {
		return 0, spec.Invalidf("resources.unified: pids.max %.64q is neither max nor a positive number", v)
	}
	return n, nil
}

// unified is what is left for the kernel's own files: nothing on v1, which has none.
func (in Input) unified(r *spec.Resources) (map[string]string, error) {
	rest := maps.Clone(r.Unified)
	delete(rest, pidsMax)
	if len(rest) == 0 {
		return nil, nil
	}
	if !in.CgroupV2 {
		return nil, spec.Invalidf("resources.unified: %q needs cgroup v2, which this node does not have", slices.Min(slices.Collect(maps.Keys(rest))))
	}
	return rest, nil
}
