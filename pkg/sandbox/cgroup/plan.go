package cgroup

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/cgroups/v3/cgroup2"
	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// oomScore stands, in a LimitWrite, for the oom_score_adj of each process of the group (proc_pid_oom_score_adj(5)).
const oomScore = "oom_score_adj"

// unlimited is where v1's "no limit" begins: LONG_MAX, rounded down to a page, is what the kernel shows.
const unlimited = 1 << 62

// restorable are unified keys of one value, which can be put back to what they were. Those that hold a line for each
// device cannot: a line that was not there cannot be written.
var restorable = regexp.MustCompile(`^(memory\.(min|low|high|max|swap\.max|swap\.high|zswap\.max|oom\.group)|` +
	`cpu\.(max|weight|weight\.nice|max\.burst|idle|uclamp\.min|uclamp\.max)|cpuset\.(cpus|mems)|pids\.max|hugetlb\.[0-9]+[KMG]B\.(max|rsvd\.max))$`)

// PlanUpdate says what is to be written so that the container's group at path has what is asked for; zero fields stay.
// It changes nothing. before are the limits in the request's words so far. InvalidArgument: what is asked for can never
// be; FailedPrecondition: not on this node, or not while the container needs more; NotFound: there is no such group.
func (m *Manager) PlanUpdate(path string, before, asked spec.Resources) (spec.LimitChange, error) {
	change := spec.LimitChange{Before: before, After: before.Merge(asked)}
	if err := m.Check(path, &change.After); err != nil {
		return change, err
	}
	p := planner{m: m, path: path, asked: asked}
	if m.node.Mode == Unified {
		p.unified()
	} else if p.err = m.missing(&asked); p.err == nil {
		p.legacy()
	}
	p.score()
	change.Writes = p.writes
	return change, p.err
}

// planner collects writes; after its first error its methods do nothing.
type planner struct {
	m      *Manager
	path   string
	asked  spec.Resources
	writes []spec.LimitWrite
	err    error
}

// file is an interface file of the group, in the hierarchy that carries the v1 controller, or on v2.
func (p *planner) file(controller, name string) string {
	dir := p.m.node.Unified
	if p.m.node.Mode != Unified {
		dir, _ = p.m.node.dir(controller)
	}
	return filepath.Join(dir, p.path, name)
}

func (p *planner) read(controller, name string) string {
	if p.err != nil {
		return ""
	}
	b, err := os.ReadFile(p.file(controller, name))
	if errors.Is(err, fs.ErrNotExist) && exists(p.file(controller, "cgroup.procs")) {
		p.err = spec.Errorf(errdefs.ErrFailedPrecondition, "limit %s: this node's kernel has no such file for containers", name)
	} else if err != nil {
		p.err = spec.Errorf(kindOf(err), "limit %s of cgroup %q: %w", name, p.path, err)
	}
	return strings.TrimSpace(string(b))
}

func (p *planner) number(controller, name string) int64 {
	s := p.read(controller, name)
	if p.err != nil {
		return 0
	}
	n, err := parseLimit(s)
	if err != nil {
		p.err = spec.Errorf(errdefs.ErrInternal, "limit %s of cgroup %q reads %q", name, p.path, clip(s))
	}
	return n
}

// parseLimit reads a number of an interface file; "max" and what v1 shows for it are -1.
func parseLimit(s string) (int64, error) {
	if s == "max" {
		return -1, nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return strconv.ParseInt(s, 10, 64)
	}
	if n >= unlimited {
		return -1, nil
	}
	return int64(n), nil
}

func (p *planner) write(controller, name, value string) {
	old := p.read(controller, name)
	if p.err == nil && old != value {
		p.writes = append(p.writes, spec.LimitWrite{File: p.file(controller, name), Old: old, New: value})
	}
}

func text(n int64) string { return strconv.FormatInt(n, 10) }

// fits refuses a limit on processes below what is there: nothing would die, but no probe would run any more.
func (p *planner) fits(controller, name string, limit int64) {
	if now := p.number(controller, name); p.err == nil && limit >= 0 && now > limit {
		p.err = spec.Preconditionf("the container has %d processes and threads: a limit of %d is too low", now, limit)
	}
}

// within refuses CPUs or memory nodes that the parent does not have: v2 would take them, and give others.
func (p *planner) within(effective, list string) {
	if list == "" || p.err != nil {
		return
	}
	b, err := os.ReadFile(filepath.Join(filepath.Dir(p.file("cpuset", "x")), "..", effective))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	have, wanted := cpuSet(strings.TrimSpace(string(b))), cpuSet(list)
	for n := range wanted {
		if !have[n] {
			p.err = spec.Invalidf("set %q is not within the pod's, which is %q", clip(list), clip(strings.TrimSpace(string(b))))
			return
		}
	}
}

// cpuSet are the members of a list such as 0-3,7, which CheckResources has let pass or the kernel has written.
func cpuSet(list string) map[int]bool {
	set := map[int]bool{}
	for part := range strings.SplitSeq(list, ",") {
		low, high, isRange := strings.Cut(part, "-")
		if !isRange {
			high = low
		}
		from, err1 := strconv.Atoi(low)
		to, err2 := strconv.Atoi(high)
		if err1 != nil || err2 != nil || to > math.MaxUint16 {
			continue
		}
		for n := from; n <= to; n++ {
			set[n] = true
		}
	}
	return set
}

func (p *planner) legacy() {
	r := p.asked
	if r.MemoryLimit != 0 || r.MemorySwap != 0 {
		p.legacyMemory()
	}
	if r.CPUShares != 0 {
		p.write("cpu", "cpu.shares", text(r.CPUShares))
	}
	if r.CPUQuota != 0 || r.CPUPeriod != 0 {
		p.legacyQuota()
	}
	p.within("cpuset.effective_cpus", r.CPUSetCPUs)
	p.within("cpuset.effective_mems", r.CPUSetMems)
	if r.CPUSetCPUs != "" {
		p.write("cpuset", "cpuset.cpus", r.CPUSetCPUs)
	}
	if r.CPUSetMems != "" {
		p.write("cpuset", "cpuset.mems", r.CPUSetMems)
	}
	if v, ok := r.Unified["pids.max"]; ok {
		n, _ := pidsMax(v)
		p.fits("pids", "pids.current", n)
		p.write("pids", "pids.max", v)
	}
	for _, h := range r.HugepageLimits {
		p.write("hugetlb", "hugetlb."+h.PageSize+".limit_in_bytes", strconv.FormatUint(h.Limit, 10))
	}
}

// legacyMemory: memory alone may never be more than memory and swap together, so what grows is written in the one order
// and what shrinks in the other.
func (p *planner) legacyMemory() {
	const name, both = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"
	r := p.asked
	limit := p.number("memory", name)
	wanted := limit
	if r.MemoryLimit != 0 {
		wanted = r.MemoryLimit
	}
	if !exists(p.file("memory", both)) { // no account of swap
		p.write("memory", name, text(wanted))
		return
	}
	total := p.number("memory", both)
	together := r.MemorySwap
	if together == 0 {
		together = wanted // where there was no limit on memory there is no room for swap beside the first, as at creation
		if limit >= 0 {
			together = total
			if total >= 0 {
				together = wanted + total - limit
			}
		}
	}
	if together < 0 || total >= 0 && together >= total {
		p.write("memory", both, text(together))
		p.write("memory", name, text(wanted))
		return
	}
	p.write("memory", name, text(wanted))
	p.write("memory", both, text(together))
}

// legacyQuota: between the two writes the kernel compares what is there with the parent's share, so the way goes over
// the smaller of the two shares in between, which is never larger than both ends'.
func (p *planner) legacyQuota() {
	const file, periodFile = "cpu.cfs_quota_us", "cpu.cfs_period_us"
	quota, period := p.number("cpu", file), p.number("cpu", periodFile)
	q, per := quota, period
	if p.asked.CPUQuota != 0 {
		q = p.asked.CPUQuota
	}
	if p.asked.CPUPeriod != 0 {
		per = p.asked.CPUPeriod
	}
	share := func(quota, period int64) float64 {
		if quota < 0 {
			return math.Inf(1)
		}
		return float64(quota) / float64(max(period, 1))
	}
	if share(q, period) <= share(quota, per) {
		p.write("cpu", file, text(q))
		p.write("cpu", periodFile, text(per))
		return
	}
	p.write("cpu", periodFile, text(per))
	p.write("cpu", file, text(q))
}

func (p *planner) unified() {
	r := p.asked
	if r.MemoryLimit != 0 || r.MemorySwap != 0 {
		p.unifiedMemory()
	}
	if r.CPUShares != 0 {
		p.write("", "cpu.weight", strconv.FormatUint(cgroup2.ConvertCPUSharesToCgroupV2Value(uint64(r.CPUShares)), 10))
	}
	if r.CPUQuota != 0 || r.CPUPeriod != 0 {
		p.cpuMax()
	}
	for _, set := range []struct{ name, list string }{{"cpuset.cpus", r.CPUSetCPUs}, {"cpuset.mems", r.CPUSetMems}} {
		if set.list != "" {
			p.within(set.name+".effective", set.list)
			p.write("", set.name, set.list)
		}
	}
	for _, h := range r.HugepageLimits {
		p.write("", "hugetlb."+h.PageSize+".max", strconv.FormatUint(h.Limit, 10))
	}
	keys := make([]string, 0, len(r.Unified))
	for k := range r.Unified {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		p.key(k, strings.TrimSpace(r.Unified[k]))
	}
}

func (p *planner) unifiedMemory() {
	r := p.asked
	limit := p.number("", "memory.max")
	wanted := limit
	if r.MemoryLimit != 0 {
		wanted = r.MemoryLimit
	}
	switch {
	case r.MemorySwap < 0:
		p.write("", "memory.swap.max", "max")
	case r.MemorySwap > 0 && wanted < 0:
		p.err = spec.Invalidf("a limit on memory and swap needs a limit on memory beside it")
	case r.MemorySwap > 0:
		p.write("", "memory.swap.max", text(r.MemorySwap-wanted))
	case limit < 0 && exists(p.file("", "memory.swap.max")):
		p.write("", "memory.swap.max", "0") // the first limit leaves no room for swap beside it, as at creation
	}
	if r.MemoryLimit != 0 {
		p.write("", "memory.max", text(wanted))
	}
}

func (p *planner) cpuMax() {
	quota, period, _ := strings.Cut(p.read("", "cpu.max"), " ")
	if p.asked.CPUQuota > 0 {
		quota = text(p.asked.CPUQuota)
	} else if p.asked.CPUQuota < 0 {
		quota = "max"
	}
	if p.asked.CPUPeriod > 0 {
		period = text(p.asked.CPUPeriod)
	}
	p.write("", "cpu.max", strings.TrimSpace(quota+" "+period))
}

func (p *planner) key(key, value string) {
	switch {
	case p.err != nil:
		return
	case !restorable.MatchString(key):
		p.err = spec.Errorf(errdefs.ErrFailedPrecondition,
			"unified key %q of a running container cannot be changed: what it held could not be put back if the rest fails", clip(key))
	case key == "pids.max":
		n, _ := pidsMax(value)
		p.fits("", "pids.current", n)
	case strings.HasPrefix(key, "cpuset."):
		p.within(key+".effective", value)
	}
	p.write("", key, value)
}

// score plans the badness of the container's processes: those that have what the first of them has.
func (p *planner) score() {
	if p.asked.OOMScoreAdj == 0 || p.err != nil {
		return
	}
	for _, pid := range p.members() {
		b, err := os.ReadFile(scoreFile(pid))
		if err != nil {
			continue
		}
		if old := strings.TrimSpace(string(b)); old != text(p.asked.OOMScoreAdj) {
			p.writes = append(p.writes, spec.LimitWrite{File: oomScore, Old: old, New: text(p.asked.OOMScoreAdj)})
		}
		return
	}
}

func (p *planner) members() []int { return p.m.members(p.path) }

func scoreFile(pid int) string { return "/proc/" + strconv.Itoa(pid) + "/oom_score_adj" }

// members are the processes of the tree, as the first hierarchy that has any tells them.
func (m *Manager) members(path string) []int {
	for _, dir := range m.node.trees(path) {
		if pids, err := procs(dir); err == nil && len(pids) > 0 {
			slices.Sort(pids)
			return pids
		}
	}
	return nil
}
