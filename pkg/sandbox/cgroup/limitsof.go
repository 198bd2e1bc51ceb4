package cgroup

import (
	"maps"
	"os"
	"strconv"
	"strings"

	"github.com/containerd/cgroups/v3/cgroup2"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Limits reads what the kernel has for the group at path, for the limits that were asked for and for those on memory and
// processor time in any case. A value that means what was asked for is shown as it was asked for: the kernel rounds
// bytes down to pages, and has weights where the request has shares.
func (m *Manager) Limits(path string, asked spec.Resources) (spec.Resources, error) {
	if err := checkPath(path); err != nil {
		return asked, err
	}
	p := &planner{m: m, path: path}
	out := asked
	if m.node.Mode == Unified {
		p.unifiedLimits(&out)
	} else {
		p.legacyLimits(&out)
	}
	return out, p.err
}

// bytesOf is the kernel's value, or what was asked for where that is the same but for the page. Unlimited is 0 where nothing was asked.
func bytesOf(asked, kernel int64) int64 {
	page := int64(os.Getpagesize())
	switch {
	case kernel < 0 && asked <= 0:
		return asked
	case asked > 0 && asked/page*page == kernel:
		return asked
	case kernel < 0:
		return -1
	}
	return kernel
}

func (p *planner) legacyLimits(r *spec.Resources) {
	if p.m.node.has("memory") {
		r.MemoryLimit = max(bytesOf(r.MemoryLimit, p.number("memory", "memory.limit_in_bytes")), 0)
		if r.MemorySwap != 0 && exists(p.file("memory", "memory.memsw.limit_in_bytes")) {
			r.MemorySwap = bytesOf(r.MemorySwap, p.number("memory", "memory.memsw.limit_in_bytes"))
		}
	}
	if p.m.node.has("cpu") {
		p.quota(r, p.number("cpu", "cpu.cfs_quota_us"), p.number("cpu", "cpu.cfs_period_us"))
		if r.CPUShares != 0 {
			// The kernel's least is 2 (kernel/sched/core.c, MIN_SHARES).
			if n := p.number("cpu", "cpu.shares"); max(r.CPUShares, 2) != n {
				r.CPUShares = n
			}
		}
	}
	p.sets(r)
	p.hugepages(r, ".limit_in_bytes")
	if v, ok := r.Unified["pids.max"]; ok {
		r.Unified = maps.Clone(r.Unified)
		if n := p.read("pids", "pids.max"); n != v {
			r.Unified["pids.max"] = n
		}
	}
}

func (p *planner) unifiedLimits(r *spec.Resources) {
	kernel := p.number("", "memory.max")
	r.MemoryLimit = max(bytesOf(r.MemoryLimit, kernel), 0)
	if r.MemorySwap != 0 && exists(p.file("", "memory.swap.max")) {
		if swap := p.number("", "memory.swap.max"); swap < 0 {
			r.MemorySwap = -1
		} else if kernel >= 0 {
			r.MemorySwap = bytesOf(r.MemorySwap, kernel+swap)
		}
	}
	quota, period, _ := strings.Cut(p.read("", "cpu.max"), " ")
	q, _ := parseLimit(quota)
	per, _ := strconv.ParseInt(period, 10, 64)
	p.quota(r, q, per)
	if r.CPUShares != 0 {
		r.CPUShares = sharesOf(r.CPUShares, uint64(p.number("", "cpu.weight")))
	}
	p.sets(r)
	p.hugepages(r, ".max")
	if len(r.Unified) > 0 {
		r.Unified = maps.Clone(r.Unified)
		for k, v := range r.Unified {
			if b, err := os.ReadFile(p.file("", k)); err == nil && restorable.MatchString(k) {
				r.Unified[k] = sameValue(v, strings.TrimSpace(string(b)))
			}
		}
	}
}

// sameValue is v where the kernel's value means the same.
func sameValue(v, kernel string) string {
	asked, err1 := parseLimit(strings.TrimSpace(v))
	have, err2 := parseLimit(kernel)
	if err1 == nil && err2 == nil && bytesOf(asked, have) == asked {
		return v
	}
	return kernel
}

func (p *planner) quota(r *spec.Resources, quota, period int64) {
	switch {
	case quota > 0:
		r.CPUQuota, r.CPUPeriod = quota, period
	case r.CPUQuota != 0:
		r.CPUQuota = -1
	}
	if r.CPUPeriod != 0 {
		r.CPUPeriod = period
	}
}

func (p *planner) sets(r *spec.Resources) {
	for name, list := range map[string]*string{"cpuset.cpus": &r.CPUSetCPUs, "cpuset.mems": &r.CPUSetMems} {
		if *list == "" {
			continue
		}
		if have := p.read("cpuset", name); !maps.Equal(cpuSet(have), cpuSet(*list)) {
			*list = have
		}
	}
}

func (p *planner) hugepages(r *spec.Resources, suffix string) {
	var out []spec.HugepageLimit
	for _, h := range r.HugepageLimits {
		file := "hugetlb." + h.PageSize + suffix
		if exists(p.file("hugetlb", file)) && (p.m.node.Mode == Unified || p.m.node.has("hugetlb")) {
			if n := p.number("hugetlb", file); n >= 0 {
				h.Limit = uint64(n)
			}
		}
		out = append(out, h)
	}
	r.HugepageLimits = out
}

// sharesOf is what was asked for where the kernel's weight is that of it; else the least shares that have the weight.
func sharesOf(asked int64, weight uint64) int64 {
	if cgroup2.ConvertCPUSharesToCgroupV2Value(uint64(asked)) == weight {
		return asked
	}
	low, high := uint64(2), uint64(1<<18)
	for low < high {
		if mid := (low + high) / 2; cgroup2.ConvertCPUSharesToCgroupV2Value(mid) < weight {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return int64(low)
}
