package cgroup

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/cgroups/v3/cgroup2"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

const (
	minQuota  = 1000    // µs: kernel/sched/core.c, min_cfs_quota_period
	minPeriod = 1000    // µs
	maxPeriod = 1000000 // µs: max_cfs_quota_period
)

// setting is one write that the library does not do, or would do wrongly. Value is written line by line.
type setting struct{ file, value string }

var (
	cpuList  = regexp.MustCompile(`^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$`)
	pageSize = regexp.MustCompile(`^[1-9][0-9]{0,5}(KB|MB|GB)$`)
	// unifiedKey is <controller>.<name>, as in Documentation/admin-guide/cgroup-v2.rst.
	unifiedKey = regexp.MustCompile(`^([a-z]+)\.([a-zA-Z0-9_]+\.?)+$`)
)

// controllers of cgroup v2 that are handed on to a pod's children where the node has them. Those in required are never
// left out silently.
var (
	v2controllers = []string{"cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc"}
	required      = []string{"cpu", "memory", "pids"}
)

// CheckResources tells whether r can be applied as it is written, on a node of the given mode; what only the kernel can
// judge (a CPU that is not there) is found later. Errors are InvalidArgument. A nil r is fine.
func CheckResources(mode Mode, r *spec.Resources) error {
	if r == nil {
		return nil
	}
	for _, check := range []func(*spec.Resources) error{checkCPU, checkMemory, checkHugepages} {
		if err := check(r); err != nil {
			return err
		}
	}
	return checkUnified(mode, r)
}

func checkCPU(r *spec.Resources) error {
	switch {
	case r.CPUPeriod != 0 && (r.CPUPeriod < minPeriod || r.CPUPeriod > maxPeriod):
		return spec.Invalidf("CPU period of %d µs is outside %d…%d", r.CPUPeriod, minPeriod, maxPeriod)
	case r.CPUQuota < -1 || r.CPUQuota > 0 && r.CPUQuota < minQuota:
		return spec.Invalidf("CPU quota of %d µs is neither -1 nor at least %d", r.CPUQuota, minQuota)
	case r.CPUShares < 0:
		return spec.Invalidf("CPU shares %d are negative", r.CPUShares)
	}
	for name, list := range map[string]string{"CPUs": r.CPUSetCPUs, "memory nodes": r.CPUSetMems} {
		if list != "" && (len(list) > 4096 || !cpuList.MatchString(list)) {
			return spec.Invalidf("set of %s %q is not a list such as 0-3,7", name, clip(list))
		}
	}
	return nil
}

func checkMemory(r *spec.Resources) error {
	switch {
	case r.MemoryLimit < 0:
		return spec.Invalidf("memory limit of %d bytes is negative", r.MemoryLimit)
	case r.MemorySwap < -1:
		return spec.Invalidf("limit of %d bytes on memory and swap is neither -1 nor positive", r.MemorySwap)
	case r.MemorySwap > 0 && r.MemoryLimit == 0:
		return spec.Invalidf("a limit on memory and swap needs a limit on memory beside it")
	case r.MemorySwap > 0 && r.MemorySwap < r.MemoryLimit:
		return spec.Invalidf("limit of %d bytes on memory and swap is below the limit of %d on memory alone", r.MemorySwap,
			r.MemoryLimit)
	}
	return nil
}

func checkHugepages(r *spec.Resources) error {
	for _, h := range r.HugepageLimits {
		if !pageSize.MatchString(h.PageSize) {
			return spec.Invalidf("huge page size %q is not of a form such as 2MB", clip(h.PageSize))
		}
	}
	return nil
}

func checkUnified(mode Mode, r *spec.Resources) error {
	for key, value := range r.Unified {
		if strings.ContainsAny(value, "\x00") || len(value) > 4096 {
			return spec.Invalidf("value of unified key %q has a NUL or more than 4096 bytes", clip(key))
		}
		if key == "pids.max" {
			if _, err := pidsMax(value); err != nil {
				return err
			}
			continue
		}
		if mode != Unified {
			return spec.Invalidf("unified key %q needs cgroup v2, this node has %s: only pids.max is understood here",
				clip(key), mode)
		}
		m := unifiedKey.FindStringSubmatch(key)
		if len(key) > maxComponent || m == nil || !slices.Contains(v2controllers, m[1]) {
			return spec.Invalidf("unified key %q is not a file of a cgroup v2 controller, such as memory.high", clip(key))
		}
	}
	return nil
}

// pidsMax is a limit, or -1 for "max".
func pidsMax(value string) (int64, error) {
	if value == "max" {
		return -1, nil
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n <= 0 {
		return 0, spec.Invalidf("pids.max %q is neither max nor a positive number", clip(value))
	}
	return n, nil
}

// legacy is what r means on v1, in the library's words. A zero is "not asked".
func legacy(r *spec.Resources) *specs.LinuxResources {
	out := &specs.LinuxResources{}
	if r == nil {
		return out
	}
	out.CPU = &specs.LinuxCPU{Cpus: r.CPUSetCPUs, Mems: r.CPUSetMems}
	out.CPU.Shares = positive(r.CPUShares)
	out.CPU.Period = positive(r.CPUPeriod)
	out.CPU.Quota = nonzero(r.CPUQuota)
	out.Memory = &specs.LinuxMemory{Limit: nonzero(r.MemoryLimit), Swap: nonzero(r.MemorySwap)}
	if v, ok := r.Unified["pids.max"]; ok {
		if n, err := pidsMax(v); err == nil && n > 0 {
			out.Pids = &specs.LinuxPids{Limit: &n}
		}
	}
	for _, h := range r.HugepageLimits {
		out.HugepageLimits = append(out.HugepageLimits, specs.LinuxHugepageLimit{Pagesize: h.PageSize, Limit: h.Limit})
	}
	return out
}

// unified is what r means on v2: the library's part, and the rest. Keys of Unified come last, so they win.
func unified(r *spec.Resources) (*cgroup2.Resources, []setting) {
	out := &cgroup2.Resources{}
	if r == nil {
		return out, nil
	}
	var rest []setting
	out.CPU = v2cpu(r)
	if r.MemoryLimit != 0 {
		limit := r.MemoryLimit
		out.Memory = &cgroup2.Memory{Max: &limit}
		if r.MemorySwap > 0 {
			swap := r.MemorySwap - r.MemoryLimit // v1 counts both together, v2 counts swap alone
			out.Memory.Swap = &swap
		}
	}
	if r.MemorySwap == -1 {
		rest = append(rest, setting{"memory.swap.max", "max"})
	}
	if len(r.HugepageLimits) > 0 {
		var h cgroup2.HugeTlb
		for _, l := range r.HugepageLimits {
			h = append(h, cgroup2.HugeTlbEntry{HugePageSize: l.PageSize, Limit: l.Limit})
		}
		out.HugeTlb = &h
	}
	keys := make([]string, 0, len(r.Unified))
	for k := range r.Unified {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		rest = append(rest, setting{k, r.Unified[k]})
	}
	return out, rest
}

func v2cpu(r *spec.Resources) *cgroup2.CPU {
	c := &cgroup2.CPU{Cpus: r.CPUSetCPUs, Mems: r.CPUSetMems}
	if r.CPUShares > 0 {
		w := cgroup2.ConvertCPUSharesToCgroupV2Value(uint64(r.CPUShares))
		c.Weight = &w
	}
	if r.CPUQuota != 0 || r.CPUPeriod != 0 {
		var quota *int64 // nil is "max"
		if r.CPUQuota > 0 {
			quota = &r.CPUQuota
		}
		c.Max = cgroup2.NewCPUMax(quota, positive(r.CPUPeriod))
	}
	if *c == (cgroup2.CPU{}) {
		return nil
	}
	return c
}

func positive(v int64) *uint64 {
	if v <= 0 {
		return nil
	}
	u := uint64(v)
	return &u
}

func nonzero(v int64) *int64 {
	if v == 0 {
		return nil
	}
	return &v
}

// clip keeps foreign text in a message short.
func clip(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}
