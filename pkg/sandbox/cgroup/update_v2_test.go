package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// scopeTree is a container's scope in fakeTree, with the files of cgroup v2 as a new group has them.
func scopeTree(t *testing.T) (*Manager, *fakeUnits, string) {
	t.Helper()
	m, f := fakeTree(t)
	const path = "/p.slice/p-1.slice/runtimed-abc.scope"
	files := map[string]string{
		path + "/cgroup.procs": "", path + "/memory.max": "max", path + "/memory.swap.max": "max", path + "/memory.current": "5000000",
		path + "/memory.high": "max", path + "/memory.reclaim": "", path + "/cpu.max": "max 100000", path + "/cpu.weight": "100",
		path + "/cpuset.cpus": "", path + "/cpuset.mems": "", path + "/pids.max": "max", path + "/pids.current": "3", path + "/hugetlb.2MB.max": "max",
		"/p.slice/p-1.slice/cpuset.cpus.effective": "0-3", "/p.slice/p-1.slice/cpuset.mems.effective": "0",
	}
	for name, text := range files {
		if err := os.MkdirAll(filepath.Join(f.root, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(f.root, name), []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return m, f, path
}

// writesOf are the writes in short.
func writesOf(c spec.LimitChange) string {
	var out []string
	for _, w := range c.Writes {
		out = append(out, filepath.Base(w.File)+"="+w.New)
	}
	return strings.Join(out, " ")
}

func TestPlanOfV2(t *testing.T) {
	m, _, path := scopeTree(t)
	for name, c := range map[string]struct {
		asked spec.Resources
		want  string
	}{
		"nothing":             {spec.Resources{}, ""},
		"the first limit":     {spec.Resources{MemoryLimit: 8 << 20}, "memory.swap.max=0 memory.max=8388608"},
		"memory and swap":     {spec.Resources{MemoryLimit: 8 << 20, MemorySwap: 10 << 20}, "memory.swap.max=2097152 memory.max=8388608"},
		"what it has already": {spec.Resources{CPUShares: 1024, CPUQuota: -1, CPUPeriod: 100000, MemorySwap: -1, Unified: map[string]string{"pids.max": "max"}}, ""},
		"quota":               {spec.Resources{CPUQuota: 5000}, "cpu.max=5000 100000"},
		"period":              {spec.Resources{CPUPeriod: 50000}, "cpu.max=max 50000"},
		"shares":              {spec.Resources{CPUShares: 2}, "cpu.weight=1"},
		"sets":                {spec.Resources{CPUSetCPUs: "1-2", CPUSetMems: "0"}, "cpuset.cpus=1-2 cpuset.mems=0"},
		"huge pages":          {spec.Resources{HugepageLimits: []spec.HugepageLimit{{PageSize: "2MB", Limit: 4 << 20}}}, "hugetlb.2MB.max=4194304"},
		"unified": {spec.Resources{Unified: map[string]string{"memory.high": "7000000", "pids.max": "7", "cpuset.cpus": "3"}},
			"cpuset.cpus=3 memory.high=7000000 pids.max=7"},
	} {
		change, err := m.PlanUpdate(path, spec.Resources{}, c.asked)
		if got := writesOf(change); err != nil || got != c.want {
			t.Errorf("%s: %q, not %q: %v", name, got, c.want, err)
		}
	}
	for name, c := range map[string]struct {
		asked spec.Resources
		kind  error
	}{
		"fewer pids":        {spec.Resources{Unified: map[string]string{"pids.max": "2"}}, errdefs.ErrFailedPrecondition},
		"a foreign CPU":     {spec.Resources{CPUSetCPUs: "3-4"}, errdefs.ErrInvalidArgument},
		"a foreign node":    {spec.Resources{CPUSetMems: "1"}, errdefs.ErrInvalidArgument},
		"a unified one":     {spec.Resources{Unified: map[string]string{"cpuset.cpus": "9"}}, errdefs.ErrInvalidArgument},
		"a page size":       {spec.Resources{HugepageLimits: []spec.HugepageLimit{{PageSize: "1GB"}}}, errdefs.ErrFailedPrecondition},
		"a line a device":   {spec.Resources{Unified: map[string]string{"io.max": "8:0 rbps=1"}}, errdefs.ErrFailedPrecondition},
		"swap of no memory": {spec.Resources{MemorySwap: 5 << 20}, errdefs.ErrInvalidArgument},
	} {
		if _, err := m.PlanUpdate(path, spec.Resources{}, c.asked); !errors.Is(err, c.kind) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestV2NeverKillsByALimit: 5 MB are used, and nothing gives way.
func TestV2NeverKillsByALimit(t *testing.T) {
	m, f, path := scopeTree(t)
	for _, asked := range []spec.Resources{{MemoryLimit: 4 << 20}, {Unified: map[string]string{"memory.max": "4000000"}}} {
		change, err := m.PlanUpdate(path, spec.Resources{}, asked)
		if err == nil {
			err = m.Change(t.Context(), path, change)
		}
		if !errors.Is(err, errdefs.ErrFailedPrecondition) || !strings.Contains(err.Error(), "uses 5000000 bytes") {
			t.Errorf("%+v: %v", asked, err)
		}
	}
	b, err := os.ReadFile(filepath.Join(f.root, path, "memory.reclaim"))
	if err != nil || !strings.HasPrefix(string(b), "1000000") && !strings.HasPrefix(string(b), "805696") {
		t.Errorf("what can be given back was not asked for: %q, %v", b, err)
	}
	if b, _ := os.ReadFile(filepath.Join(f.root, path, "memory.max")); strings.TrimSpace(string(b)) != "max" {
		t.Errorf("the limit is %q", b)
	}
}

// TestSystemdIsToldOfALimit behind the files; what it does not take is put back, and told to it again.
func TestSystemdIsToldOfALimit(t *testing.T) {
	m, f, path := scopeTree(t)
	change, err := m.PlanUpdate(path, spec.Resources{}, spec.Resources{MemoryLimit: 8 << 20, CPUShares: 2, CPUQuota: 5000})
	if err == nil {
		err = m.Change(t.Context(), path, change)
	}
	if err != nil || !slices.Equal(f.asked, []string{"set " + path}) {
		t.Errorf("asked %q: %v", f.asked, err)
	}
	if r := before(change); r.MemoryLimit != -1 || r.CPUQuota != -1 || r.CPUShares != 1024 || r.CPUPeriod != 0 {
		t.Errorf("what was unlimited is put back as %+v", r)
	}
	if err := m.Revert(t.Context(), path, change); err != nil || len(f.asked) != 2 {
		t.Errorf("revert: asked %q: %v", f.asked, err)
	}
	f.fail["set"] = os.ErrDeadlineExceeded
	if err := m.Change(t.Context(), path, change); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("systemd's no: %v", err)
	}
}
