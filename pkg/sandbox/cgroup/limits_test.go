package cgroup

import (
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// TestLimitsToFiles makes groups in a directory that looks like each kind of mount, and reads back every file that was
// written.
func TestLimitsToFiles(t *testing.T) {
	const mib = 1 << 20
	for name, c := range map[string]struct {
		r      *spec.Resources
		v1, v2 map[string]string
	}{
		"nothing asked": {nil, map[string]string{}, map[string]string{}},
		"zeroes":        {&spec.Resources{}, map[string]string{}, map[string]string{}},
		"memory": {&spec.Resources{MemoryLimit: 64 * mib}, map[string]string{"memory.limit_in_bytes": "67108864"},
			map[string]string{"memory.max": "67108864"}},
		"memory and swap": {&spec.Resources{MemoryLimit: 64 * mib, MemorySwap: 96 * mib},
			map[string]string{"memory.limit_in_bytes": "67108864", "memory.memsw.limit_in_bytes": "100663296"},
			map[string]string{"memory.max": "67108864", "memory.swap.max": "33554432"}},
		"no swap": {&spec.Resources{MemoryLimit: 64 * mib, MemorySwap: 64 * mib},
			map[string]string{"memory.limit_in_bytes": "67108864", "memory.memsw.limit_in_bytes": "67108864"},
			map[string]string{"memory.max": "67108864", "memory.swap.max": "0"}},
		"unlimited swap": {&spec.Resources{MemoryLimit: 64 * mib, MemorySwap: -1},
			map[string]string{"memory.limit_in_bytes": "67108864", "memory.memsw.limit_in_bytes": "-1"},
			map[string]string{"memory.max": "67108864", "memory.swap.max": "max"}},
		"shares": {&spec.Resources{CPUShares: 1024}, map[string]string{"cpu.shares": "1024"},
			map[string]string{"cpu.weight": "100"}},
		"least shares": {&spec.Resources{CPUShares: 2}, map[string]string{"cpu.shares": "2"},
			map[string]string{"cpu.weight": "1"}},
		"quota": {&spec.Resources{CPUQuota: 50000, CPUPeriod: 100000},
			map[string]string{"cpu.cfs_quota_us": "50000", "cpu.cfs_period_us": "100000"},
			map[string]string{"cpu.max": "50000 100000"}},
		"quota alone": {&spec.Resources{CPUQuota: 50000}, map[string]string{"cpu.cfs_quota_us": "50000"},
			map[string]string{"cpu.max": "50000 100000"}},
		"no quota": {&spec.Resources{CPUQuota: -1, CPUPeriod: 50000},
			map[string]string{"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "50000"},
			map[string]string{"cpu.max": "max 50000"}},
		"sets": {&spec.Resources{CPUSetCPUs: "0-1", CPUSetMems: "0"},
			map[string]string{"cpuset.cpus": "0-1", "cpuset.mems": "0"},
			map[string]string{"cpuset.cpus": "0-1", "cpuset.mems": "0"}},
		"pids": {&spec.Resources{Unified: map[string]string{"pids.max": "64"}},
			map[string]string{"pids.max": "64"}, map[string]string{"pids.max": "64"}},
		"pids without limit": {&spec.Resources{Unified: map[string]string{"pids.max": "max"}},
			map[string]string{}, map[string]string{"pids.max": "max"}},
		"huge pages": {&spec.Resources{HugepageLimits: []spec.HugepageLimit{{PageSize: "2MB", Limit: 2 * mib}}},
			map[string]string{"hugetlb.2MB.limit_in_bytes": "2097152"}, map[string]string{"hugetlb.2MB.max": "2097152"}},
		"unified": {&spec.Resources{Unified: map[string]string{"memory.high": "1000", "memory.oom.group": "1"}},
			nil, map[string]string{"memory.high": "1000", "memory.oom.group": "1"}},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "huge pages" && !exists(hugepages) {
				t.Log("this kernel has no huge pages: their limit on v1 is not tested")
			} else if c.v1 != nil {
				same(t, "v1", written(t, Legacy, c.r), c.v1)
			} else if err := CheckResources(Legacy, c.r); !errdefs.IsInvalidArgument(err) {
				t.Errorf("v1: %v, want InvalidArgument", err)
			}
			same(t, "v2", written(t, Unified, c.r), c.v2)
		})
	}
}

func same(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: wrote %v, want %v", what, got, want)
	}
}

// written returns the files of a group that Create wrote in a pretended mount.
func written(t *testing.T, mode Mode, r *spec.Resources) map[string]string {
	t.Helper()
	root := t.TempDir()
	n := Node{Mode: mode, Root: root, Unified: root}
	put := func(file, text string) {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if mode != Unified {
		n.Unified = ""
		for _, c := range []string{"cpu", "cpuacct", "cpuset", "memory", "pids", "freezer", "hugetlb", "devices"} {
			n.V1 = append(n.V1, Hierarchy{filepath.Join(root, c), []string{c}})
			put(filepath.Join(root, c, "cgroup.procs"), "")
		}
		put(filepath.Join(root, "memory/memory.memsw.limit_in_bytes"), "")
	} else {
		for _, d := range []string{"", "pod"} {
			put(filepath.Join(root, d, "cgroup.controllers"), strings.Join(v2controllers, " "))
			put(filepath.Join(root, d, "cgroup.subtree_control"), strings.Join(v2controllers, " "))
		}
		for _, s := range []string{"memory.swap.max", "memory.high", "memory.oom.group", "pids.max"} {
			put(filepath.Join(root, "pod", s), "")
		}
	}
	if err := New(n, nil).Create(t.Context(), "/pod", r); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if b, _ := os.ReadFile(path); err == nil && !d.IsDir() && filepath.Base(filepath.Dir(path)) == "pod" &&
			!strings.HasPrefix(d.Name(), "cgroup.") && len(b) > 0 {
			out[d.Name()] = string(b)
		}
		return nil
	})
	return out
}

func TestCheckResources(t *testing.T) {
	u := func(k, v string) spec.Resources { return spec.Resources{Unified: map[string]string{k: v}} }
	for name, c := range map[string]struct {
		r    spec.Resources
		mode Mode
		ok   bool
	}{
		"short period":        {spec.Resources{CPUPeriod: 999}, Legacy, false},
		"long period":         {spec.Resources{CPUPeriod: 1000001}, Legacy, false},
		"negative period":     {spec.Resources{CPUPeriod: -1}, Legacy, false},
		"quota -2":            {spec.Resources{CPUQuota: -2}, Legacy, false},
		"tiny quota":          {spec.Resources{CPUQuota: 10}, Legacy, false},
		"negative shares":     {spec.Resources{CPUShares: -1}, Legacy, false},
		"cpus with a path":    {spec.Resources{CPUSetCPUs: "0/../1"}, Legacy, false},
		"cpus with a newline": {spec.Resources{CPUSetCPUs: "0\n1"}, Legacy, false},
		"mems":                {spec.Resources{CPUSetMems: "a"}, Legacy, false},
		"cpus":                {spec.Resources{CPUSetCPUs: "0-3,7,9-10"}, Legacy, true},
		"negative memory":     {spec.Resources{MemoryLimit: -1}, Legacy, false},
		"swap alone":          {spec.Resources{MemorySwap: 1 << 20}, Legacy, false},
		"swap below memory":   {spec.Resources{MemoryLimit: 2 << 20, MemorySwap: 1 << 20}, Legacy, false},
		"swap -2":             {spec.Resources{MemorySwap: -2}, Legacy, false},
		"page size path":      {spec.Resources{HugepageLimits: []spec.HugepageLimit{{PageSize: "../2MB"}}}, Unified, false},
		"page size":           {spec.Resources{HugepageLimits: []spec.HugepageLimit{{PageSize: "1GB"}}}, Unified, true},
		"pids zero":           {u("pids.max", "0"), Legacy, false},
		"pids text":           {u("pids.max", "lots"), Unified, false},
		"pids wide":           {u("pids.max", "99999999999999999999"), Unified, false},
		"v2 key on v1":        {u("memory.high", "1"), Legacy, false},
		"v2 key on hybrid":    {u("memory.high", "1"), Hybrid, false},
		"v2 key on v2":        {u("memory.high", "1"), Unified, true},
		"slash":               {u("../memory.high", "1"), Unified, false},
		"slash inside":        {u("memory/../../x", "1"), Unified, false},
		"core file":           {u("cgroup.procs", "1"), Unified, false},
		"unknown controller":  {u("gpu.max", "1"), Unified, false},
		"no controller":       {u("max", "1"), Unified, false},
		"empty key":           {u("", "1"), Unified, false},
		"NUL value":           {u("memory.high", "1\x00"), Unified, false},
		"long value":          {u("memory.high", strings.Repeat("1", 5000)), Unified, false},
		"long key":            {u("memory."+strings.Repeat("a", 300), "1"), Unified, false},
	} {
		err := CheckResources(c.mode, &c.r)
		if (err == nil) != c.ok || err != nil && !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v, want ok=%v", name, err, c.ok)
		}
	}
}

func TestMissingControllerRefuses(t *testing.T) {
	m := New(Node{Mode: Legacy, Root: t.TempDir()}, nil)
	for name, r := range map[string]spec.Resources{
		"cpu": {CPUShares: 5}, "quota": {CPUQuota: 5000}, "memory": {MemoryLimit: 1 << 20}, "cpuset": {CPUSetCPUs: "0"},
		"pids": {Unified: map[string]string{"pids.max": "5"}}, "huge": {HugepageLimits: []spec.HugepageLimit{{PageSize: "2MB"}}},
	} {
		if err := m.Create(t.Context(), "/x", &r); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("%s: %v, want FailedPrecondition", name, err)
		}
	}
}

func TestMemberOf(t *testing.T) {
	const file = "9:pids:/\n4:memory:/pod/c1\n0::/other\n"
	for path, want := range map[string]bool{"/pod": true, "/pod/c1": true, "/po": false, "/pod/c": false, "/other": true,
		"/other/x": false} {
		if memberOf([]byte(file), path) != want {
			t.Errorf("memberOf(%q) != %v", path, want)
		}
	}
}
