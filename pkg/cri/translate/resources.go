package translate

import (
	"maps"
	"regexp"
	"strconv"
	"strings"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// What the kernel takes (Documentation/scheduler/sched-bwc.rst, sched-design-CFS.rst).
const (
	minPeriod = 1000    // µs
	maxPeriod = 1000000 // µs
	minQuota  = 1000    // µs
	maxShares = 1 << 18
	maxCPU    = 1 << 16 // beyond every CONFIG_NR_CPUS
)

var (
	hugepageSize = regexp.MustCompile(`^[1-9][0-9]{0,9}[KMG]B$`)
	// unifiedKey is controller.file: no slash, so that it stays in the container's own group.
	unifiedKey = regexp.MustCompile(`^[a-z][a-z0-9_]*(\.[a-zA-Z0-9_]+)+$`)
)

func (c *check) resources(field string, r *v1.LinuxContainerResources) *spec.Resources {
	if r == nil {
		return nil
	}
	out := &spec.Resources{
		CPUPeriod:      r.GetCpuPeriod(),
		CPUQuota:       r.GetCpuQuota(),
		CPUShares:      c.within(field+".cpu_shares", r.GetCpuShares(), 0, maxShares),
		MemoryLimit:    c.within(field+".memory_limit_in_bytes", r.GetMemoryLimitInBytes(), 0, 1<<63-1),
		MemorySwap:     c.within(field+".memory_swap_limit_in_bytes", r.GetMemorySwapLimitInBytes(), -1, 1<<63-1),
		CPUSetCPUs:     c.cpuset(field+".cpuset_cpus", r.GetCpusetCpus()),
		CPUSetMems:     c.cpuset(field+".cpuset_mems", r.GetCpusetMems()),
		OOMScoreAdj:    c.within(field+".oom_score_adj", r.GetOomScoreAdj(), -1000, 1000),
		HugepageLimits: c.hugepages(field+".hugepage_limits", r.GetHugepageLimits()),
		Unified:        c.unified(field+".unified", r.GetUnified()),
	}
	if out.CPUPeriod != 0 {
		c.within(field+".cpu_period", out.CPUPeriod, minPeriod, maxPeriod)
	}
	if out.CPUQuota != 0 && out.CPUQuota != -1 {
		c.within(field+".cpu_quota", out.CPUQuota, minQuota, 1<<44)
	}
	if out.MemorySwap > 0 && out.MemorySwap < out.MemoryLimit {
		c.fail(field+".memory_swap_limit_in_bytes", "%d is memory and swap together: it cannot be less than the memory limit, %d",
			out.MemorySwap, out.MemoryLimit)
	}
	return out
}

// cpuset checks the list format of cpuset(7): "0-3,7".
func (c *check) cpuset(field, s string) string {
	if s == "" {
		return ""
	}
	c.text(field, s, maxPath)
	for part := range strings.SplitSeq(s, ",") {
		low, high, isRange := strings.Cut(part, "-")
		if !isRange {
			high = low
		}
		from, err1 := strconv.ParseUint(low, 10, 16)
		to, err2 := strconv.ParseUint(high, 10, 16)
		if err1 != nil || err2 != nil || from > to || to >= maxCPU {
			c.fail(field, "%s is not a list such as \"0-3,7\"", shown(s))
		}
	}
	return s
}

func (c *check) hugepages(field string, in []*v1.HugepageLimit) []spec.HugepageLimit {
	if len(in) == 0 || !c.count(field, len(in), maxItems) {
		return nil
	}
	out := make([]spec.HugepageLimit, 0, len(in))
	seen := map[string]bool{}
	for i, h := range in {
		size := h.GetPageSize()
		if !hugepageSize.MatchString(size) {
			c.fail(at(field, i)+".page_size", "%s is not a size such as \"2MB\"", shown(size))
		}
		if seen[size] {
			c.fail(at(field, i)+".page_size", "%s is given twice", shown(size))
		}
		seen[size] = true
		out = append(out, spec.HugepageLimit{PageSize: size, Limit: h.GetLimit()})
	}
	return out
}

func (c *check) unified(field string, m map[string]string) map[string]string {
	if len(m) == 0 || !c.count(field, len(m), maxItems) {
		return nil
	}
	for k, v := range m {
		if len(k) > maxName || !unifiedKey.MatchString(k) || strings.HasPrefix(k, "cgroup.") {
			c.fail(field, "%s is not a file of a controller such as \"pids.max\"", shown(k))
		}
		c.text(field+"["+shown(k)+"]", v, maxSysctlValue)
	}
	return maps.Clone(m)
}

// Resources translates back, for a status.
func Resources(r *spec.Resources) *v1.LinuxContainerResources {
	if r == nil {
		return nil
	}
	out := &v1.LinuxContainerResources{
		CpuPeriod: r.CPUPeriod, CpuQuota: r.CPUQuota, CpuShares: r.CPUShares,
		MemoryLimitInBytes: r.MemoryLimit, MemorySwapLimitInBytes: r.MemorySwap, OomScoreAdj: r.OOMScoreAdj,
		CpusetCpus: r.CPUSetCPUs, CpusetMems: r.CPUSetMems, Unified: r.Unified,
	}
	for _, h := range r.HugepageLimits {
		out.HugepageLimits = append(out.HugepageLimits, &v1.HugepageLimit{PageSize: h.PageSize, Limit: h.Limit})
	}
	return out
}
