package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// limited is a group with a process in it and the given limits, as libcontainer would have made it.
func limited(t *testing.T, r spec.Resources, script string) (*Manager, Node, string, *exec.Cmd) {
	t.Helper()
	n, root := node(t)
	m, path := New(n, nil), root+"/pod/c"
	if n.Mode == Unified {
		if err := m.parents(path); err != nil {
			t.Fatal(err)
		}
	}
	cmd := in(t, m, path, script)
	if err := m.group(path, &r); err != nil {
		t.Fatal(err)
	}
	return m, n, path, cmd
}

func TestUpdateEachLimit(t *testing.T) {
	had := spec.Resources{MemoryLimit: 64 << 20, MemorySwap: 64 << 20, CPUShares: 512, CPUQuota: 50000, CPUPeriod: 100000,
		CPUSetCPUs: "0-1", Unified: map[string]string{"pids.max": "64"}}
	m, n, path, _ := limited(t, had, "sleep 1000")
	if n.Mode != Unified && !exists("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes") {
		had.MemorySwap = 0
	}
	for name, asked := range map[string]spec.Resources{
		"memory up":           {MemoryLimit: 128 << 20},
		"memory down":         {MemoryLimit: 32 << 20},
		"memory by bytes":     {MemoryLimit: 100_000_001},
		"memory and swap":     {MemoryLimit: 128 << 20, MemorySwap: 256 << 20},
		"memory, swap down":   {MemoryLimit: 16 << 20, MemorySwap: 16 << 20},
		"swap without limit":  {MemorySwap: -1},
		"shares":              {CPUShares: 2048},
		"least shares":        {CPUShares: 2},
		"quota":               {CPUQuota: 20000},
		"period":              {CPUPeriod: 200000},
		"quota and period up": {CPUQuota: 400000, CPUPeriod: 50000},
		"both down":           {CPUQuota: 1000, CPUPeriod: 1000000},
		"no quota":            {CPUQuota: -1},
		"cpus":                {CPUSetCPUs: "1"},
		"pids":                {Unified: map[string]string{"pids.max": "10"}},
		"no limit of pids":    {Unified: map[string]string{"pids.max": "max"}},
		"everything": {MemoryLimit: 48 << 20, CPUShares: 100, CPUQuota: 30000, CPUPeriod: 60000, CPUSetCPUs: "0",
			Unified: map[string]string{"pids.max": "20"}},
	} {
		t.Run(name, func(t *testing.T) {
			if asked.MemorySwap != 0 && had.MemorySwap == 0 {
				t.Log("this kernel has no account of swap")
				return
			}
			before := snapshot(t, n, path)
			change, err := m.PlanUpdate(path, had, asked)
			if err != nil {
				t.Fatal(err)
			}
			if after := snapshot(t, n, path); !reflect.DeepEqual(before, after) {
				t.Fatalf("planning has changed %v to %v", before, after)
			}
			if err := m.Change(soon(t), path, change); err != nil {
				t.Fatal(err)
			}
			want := had.Merge(asked)
			got, err := m.Limits(path, want)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("the kernel has %+v, not %+v: %v", got, want, err)
			}
			if err := m.Revert(soon(t), path, change); err != nil {
				t.Fatal(err)
			}
			if after := snapshot(t, n, path); !reflect.DeepEqual(before, after) {
				t.Errorf("put back: %v, not %v", after, before)
			}
		})
	}
}

// snapshot are all limits as the files read.
func snapshot(t *testing.T, n Node, path string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, dir := range n.trees(path) {
		for _, name := range []string{"memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us",
			"cpuset.cpus", "cpuset.mems", "pids.max", "memory.max", "memory.swap.max", "memory.high", "cpu.max", "cpu.weight"} {
			if b, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
				out[name] = strings.TrimSpace(string(b))
			}
		}
	}
	return out
}

// TestAnUpdateThatIsRefused leaves everything as it was, however late the refusal comes.
func TestAnUpdateThatIsRefused(t *testing.T) {
	had := spec.Resources{MemoryLimit: 64 << 20, CPUQuota: 50000, CPUPeriod: 100000, CPUSetCPUs: "0-1", Unified: map[string]string{"pids.max": "64"}}
	if exists("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes") || exists("/sys/fs/cgroup/cgroup.controllers") {
		had.MemorySwap = had.MemoryLimit // so that no memory can go there
	}
	m, n, path, _ := limited(t, had, "x=$(head -c 16000000 /dev/zero | tr '\\0' x); sleep 1000 & sleep 1000 & wait")
	eventually(t, "the process has its memory, and sleeps", func() bool {
		asleep := 0
		for _, pid := range m.members(path) {
			if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); err == nil && string(b) == "sleep\n" {
				asleep++
			}
		}
		return asleep == 2 && usedBytes(n, path) > 15<<20
	})
	before := snapshot(t, n, path)
	for name, c := range map[string]struct {
		asked spec.Resources
		kind  error
	}{
		"memory that is used":        {spec.Resources{MemoryLimit: 4 << 20, CPUQuota: 10000}, errdefs.ErrFailedPrecondition},
		"fewer pids than there are":  {spec.Resources{CPUQuota: 10000, Unified: map[string]string{"pids.max": "1"}}, errdefs.ErrFailedPrecondition},
		"CPUs that are not there":    {spec.Resources{CPUQuota: 10000, CPUSetCPUs: "0-4000"}, errdefs.ErrInvalidArgument},
		"a period out of range":      {spec.Resources{CPUPeriod: 5}, errdefs.ErrInvalidArgument},
		"swap below memory":          {spec.Resources{MemoryLimit: 64 << 20, MemorySwap: 1 << 20}, errdefs.ErrInvalidArgument},
		"a page size that is no one": {spec.Resources{CPUQuota: 10000, HugepageLimits: []spec.HugepageLimit{{PageSize: "3MB", Limit: 1}}}, nil},
		"a unified key of a device":  {spec.Resources{CPUQuota: 10000, Unified: map[string]string{"io.max": "8:0 rbps=1"}}, nil},
		"a unified key of nobody":    {spec.Resources{CPUQuota: 10000, Unified: map[string]string{"nobody.max": "1"}}, errdefs.ErrInvalidArgument},
	} {
		change, err := m.PlanUpdate(path, had, c.asked)
		if err == nil {
			if err = m.Change(soon(t), path, change); err != nil {
				if rerr := m.Revert(soon(t), path, change); rerr != nil {
					t.Errorf("%s: revert: %v", name, rerr)
				}
			}
		}
		if err == nil || c.kind != nil && !errors.Is(err, c.kind) || errors.Is(err, errdefs.ErrInternal) {
			t.Errorf("%s: %v", name, err)
		}
		if after := snapshot(t, n, path); !reflect.DeepEqual(before, after) {
			t.Errorf("%s: %v is left, of %v", name, after, before)
		}
	}
	if pids := m.members(path); len(pids) < 3 {
		t.Errorf("a refused limit has killed: %v", pids)
	}
}

func usedBytes(n Node, path string) int64 {
	for _, dir := range n.trees(path) {
		for _, name := range []string{"memory.usage_in_bytes", "memory.current"} {
			if b, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
				used, _ := parseLimit(strings.TrimSpace(string(b)))
				return used
			}
		}
	}
	return 0
}

// TestTheScoreOfEveryProcess: also of those that came later; one that has chosen its own keeps it.
func TestTheScoreOfEveryProcess(t *testing.T) {
	m, _, path, cmd := limited(t, spec.Resources{}, "sleep 1000 & (echo 777 >/proc/self/oom_score_adj; exec sleep 2000) & wait")
	scores := func() map[string]int {
		out := map[string]int{}
		for _, pid := range m.members(path) {
			b, _ := os.ReadFile(scoreFile(pid))
			out[strings.TrimSpace(string(b))]++
		}
		return out
	}
	eventually(t, "three processes", func() bool { return len(m.members(path)) == 3 && scores()["777"] == 1 })
	b, err := os.ReadFile(scoreFile(cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	old := strings.TrimSpace(string(b))
	change, err := m.PlanUpdate(path, spec.Resources{}, spec.Resources{OOMScoreAdj: 654})
	if err == nil {
		err = m.Change(soon(t), path, change)
	}
	if err != nil || scores()["654"] != 2 || scores()["777"] != 1 {
		t.Errorf("%v, %v", scores(), err)
	}
	// Going back is giving less than there is: it takes CAP_SYS_RESOURCE, unless a lower score was the process's before.
	if err := m.Revert(soon(t), path, change); err != nil || scores()[old] != 2 {
		t.Errorf("put back: %v, %v", scores(), err)
	}
}

func TestUpdateOfAGroupThatIsGone(t *testing.T) {
	n, root := node(t)
	m := New(n, nil)
	_, err := m.PlanUpdate(root+"/none", spec.Resources{}, spec.Resources{MemoryLimit: 1 << 20, CPUQuota: 2000})
	if !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("a plan: %v", err)
	}
	change := spec.LimitChange{Writes: []spec.LimitWrite{{File: filepath.Join(n.trees(root)[0], "none", "memory.max"), Old: "1", New: "2"}, {File: oomScore, Old: "0", New: "1"}}}
	if err := m.Change(t.Context(), root+"/none", change); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("a change: %v", err)
	}
	if err := m.Revert(t.Context(), root+"/none", change); err != nil {
		t.Errorf("there is nothing to put back: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Change(ctx, root+"/none", change); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that left: %v", err)
	}
}

func TestLimitsInTheRequestsWords(t *testing.T) {
	page := int64(os.Getpagesize())
	for _, c := range []struct{ asked, kernel, want int64 }{
		{0, -1, 0}, {-1, -1, -1}, {100, -1, -1}, {5*page + 7, 5 * page, 5*page + 7}, {5 * page, 5 * page, 5 * page},
		{5 * page, 6 * page, 6 * page}, {0, 6 * page, 6 * page},
	} {
		if got := bytesOf(c.asked, c.kernel); got != c.want {
			t.Errorf("asked %d, the kernel has %d: %d is shown, not %d", c.asked, c.kernel, got, c.want)
		}
	}
	for text, want := range map[string]int64{"max": -1, "-1": -1, "9223372036854771712": -1, "18446744073709551615": -1, "4096": 4096} {
		if got, err := parseLimit(text); err != nil || got != want {
			t.Errorf("%s reads %d, %v", text, got, err)
		}
	}
	if _, err := parseLimit("5 apples"); err == nil {
		t.Error("apples are a limit")
	}
	for list, want := range map[string]int{"": 0, "0": 1, "0-3,7": 5, "3-1": 0, "x": 0} {
		if got := len(cpuSet(list)); got != want {
			t.Errorf("%q has %d members", list, got)
		}
	}
	for _, shares := range []int64{2, 102, 1024, 2048, 1 << 18} {
		weight := uint64(*v2cpu(&spec.Resources{CPUShares: shares}).Weight)
		if got := sharesOf(shares, weight); got != shares {
			t.Errorf("%d shares read %d", shares, got)
		}
		other := sharesOf(1<<18+1, weight) // another's: the least that have the weight
		if got := uint64(*v2cpu(&spec.Resources{CPUShares: other}).Weight); got != weight {
			t.Errorf("weight %d is shown as %d shares, which are weight %d", weight, other, got)
		}
	}
	if sameValue("1048577", "1048576") != "1048577" || sameValue("max", "max") != "max" || sameValue("5", "max") != "max" || sameValue("a b", "c") != "c" {
		t.Error("unified values are not compared")
	}
}
