package cgroup

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	stats1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	stats2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

const none = spec.Unlimited

func TestUnifiedUse(t *testing.T) {
	var u spec.GroupUse
	unifiedUse(&stats2.Metrics{
		CPU: &stats2.CPUStat{UsageUsec: 5, UserUsec: 3, SystemUsec: 2, NrPeriods: 9, NrThrottled: 4, ThrottledUsec: 7,
			PSI: &stats2.PSIStats{Some: &stats2.PSIData{Avg10: 1.5, Avg60: 2, Avg300: 3, Total: 11}}},
		Memory: &stats2.MemoryStat{Usage: 100, UsageLimit: none, MaxUsage: 120, Anon: 60, File: 30, FileMapped: 5, KernelStack: 3, Slab: 4,
			ActiveFile: 10, InactiveFile: 20, Pgfault: 8, Pgmajfault: 2, SwapUsage: 6, SwapLimit: 50},
		MemoryEvents: &stats2.MemoryEvents{Max: 3, OomKill: 1},
		Pids:         &stats2.PidsStat{Current: 2, Limit: 32},
		Io:           &stats2.IOStat{Usage: []*stats2.IOEntry{{Major: 999, Minor: 1, Rbytes: 1, Wbytes: 2, Rios: 3, Wios: 4}}},
	}, &u)
	us := time.Microsecond
	want := spec.GroupUse{
		CPU: spec.CPUUse{Total: 5 * us, User: 3 * us, System: 2 * us, Periods: 9, Throttled: 4, ThrottledFor: 7 * us},
		Memory: &spec.MemoryUse{Usage: 100, Limit: none, MaxUsage: 120, RSS: 60, Cache: 30, Mapped: 5, Kernel: 7, ActiveFile: 10, InactiveFile: 20,
			PageFaults: 8, MajorFaults: 2, Failures: 3, OOMKills: 1},
		Swap: &spec.SwapUse{Usage: 6, Limit: 50}, Tasks: &spec.TasksUse{Current: 2, Limit: 32},
		CPUStall: &spec.Stalls{Some: spec.Stall{Total: 11 * us, Avg10: 1.5, Avg60: 2, Avg300: 3}},
		Devices:  []spec.DeviceUse{{Device: "999:1", Major: 999, Minor: 1, ReadBytes: 1, WriteBytes: 2, ReadCount: 3, WriteCount: 4}},
	}
	if d := cmp.Diff(want, u); d != "" {
		t.Error(d)
	}
	if u.Memory.WorkingSet() != 80 || (spec.MemoryUse{Usage: 1, InactiveFile: 2}).WorkingSet() != 0 {
		t.Error("working set")
	}
}

func TestLegacyUse(t *testing.T) {
	entry := func(op string, n uint64) *stats1.BlkIOEntry { return &stats1.BlkIOEntry{Major: 999, Op: op, Value: n} }
	var u spec.GroupUse
	legacyUse(&stats1.Metrics{
		CPU: &stats1.CPUStat{Usage: &stats1.CPUUsage{Total: 5, User: 3, Kernel: 2}, Throttling: &stats1.Throttle{Periods: 9, ThrottledPeriods: 4, ThrottledTime: 7}},
		Memory: &stats1.MemoryStat{
			Cache: 1, RSS: 1, InactiveFile: 1, TotalCache: 30, TotalRSS: 60, TotalMappedFile: 5, TotalActiveFile: 10, TotalInactiveFile: 20,
			TotalPgFault: 8, TotalPgMajFault: 2, Usage: &stats1.MemoryEntry{Usage: 100, Limit: 9223372036854771712, Max: 120, Failcnt: 3},
			Swap: &stats1.MemoryEntry{Usage: 106, Limit: 9223372036854771712}, Kernel: &stats1.MemoryEntry{Usage: 7},
		},
		MemoryOomControl: &stats1.MemoryOomControl{OomKill: 1},
		Pids:             &stats1.PidsStat{Current: 2},
		Blkio: &stats1.BlkIOStat{IoServiceBytesRecursive: []*stats1.BlkIOEntry{entry("Read", 1), entry("Write", 2), entry("Total", 3)},
			IoServicedRecursive: []*stats1.BlkIOEntry{entry("Read", 3), entry("Write", 4)}},
	}, &u)
	want := spec.GroupUse{
		CPU: spec.CPUUse{Total: 5, User: 3, System: 2, Periods: 9, Throttled: 4, ThrottledFor: 7},
		Memory: &spec.MemoryUse{Usage: 100, Limit: none, MaxUsage: 120, RSS: 60, Cache: 30, Mapped: 5, Kernel: 7, ActiveFile: 10, InactiveFile: 20,
			PageFaults: 8, MajorFaults: 2, Failures: 3, OOMKills: 1},
		Swap: &spec.SwapUse{Usage: 6, Limit: none}, Tasks: &spec.TasksUse{Current: 2, Limit: none},
		Devices: []spec.DeviceUse{{Device: "999:0", Major: 999, ReadBytes: 1, WriteBytes: 2, ReadCount: 3, WriteCount: 4}},
	}
	if d := cmp.Diff(want, u); d != "" {
		t.Error(d)
	}
}

func TestLegacySwap(t *testing.T) {
	for _, c := range []struct {
		memory, both *stats1.MemoryEntry
		want         *spec.SwapUse
	}{
		{&stats1.MemoryEntry{Usage: 5, Limit: 10}, &stats1.MemoryEntry{}, nil},
		{&stats1.MemoryEntry{Usage: 5, Limit: 10}, &stats1.MemoryEntry{Usage: 7, Limit: 10}, &spec.SwapUse{Usage: 2, Limit: 0}},
		{&stats1.MemoryEntry{Usage: 5, Limit: 10}, &stats1.MemoryEntry{Usage: 4, Limit: 30}, &spec.SwapUse{Usage: 0, Limit: 20}},
		{&stats1.MemoryEntry{Usage: 5, Limit: pageLimit}, &stats1.MemoryEntry{Usage: 5, Limit: 30}, &spec.SwapUse{Limit: none}},
	} {
		got := legacySwap(&stats1.MemoryStat{Usage: c.memory, Swap: c.both})
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%v, %v: %s", c.memory, c.both, d)
		}
	}
}

const pressure = "some avg10=1.50 avg60=0.25 avg300=0.00 total=12345\nfull avg10=0.00 avg60=0.00 avg300=0.01 total=6\n"

func TestStalls(t *testing.T) {
	got, err := parseStalls(pressure)
	want := &spec.Stalls{
		Some: spec.Stall{Total: 12345 * time.Microsecond, Avg10: 1.5, Avg60: 0.25}, Full: spec.Stall{Total: 6 * time.Microsecond, Avg300: 0.01},
	}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Error(err, d)
	}
	for _, bad := range []string{"some avg10=x", "full total=-1", "some total=99999999999999999999"} {
		if _, err := parseStalls(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if s, err := stallsOf(t.TempDir() + "/cpu.pressure"); s != nil || err != nil {
		t.Errorf("a kernel without: %v, %v", s, err)
	}
}

func FuzzStalls(f *testing.F) {
	for _, seed := range []string{pressure, "", "some", "full total=", "some avg10=NaN total=1 =", "x y=z\n\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseStalls(text)
		if (s == nil) == (err == nil) {
			t.Errorf("%v, %v", s, err)
		}
		if s != nil && (s.Some.Total < 0 || s.Full.Total < 0) {
			t.Errorf("%q is a time of %v", text, s)
		}
	})
}

// What a real group uses is counted with what a group below it uses.
func TestUseOfAGroup(t *testing.T) {
	n, root := node(t)
	m := New(n, nil)
	limits := &spec.Resources{MemoryLimit: 256 << 20, MemorySwap: 256 << 20, Unified: map[string]string{"pids.max": "64"}}
	if dir, _ := n.dir("memory"); n.Mode != Unified && !exists(dir+"/memory.memsw.limit_in_bytes") {
		limits.MemorySwap = 0
	}
	if err := m.Create(t.Context(), root+"/pod", limits); err != nil {
		t.Fatal(err)
	}
	cmd := in(t, m, root+"/pod/ctr", `head -c 20000000 /dev/zero | tail -c 20000000 >/dev/null; i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; sleep 1000 & wait`)
	var u spec.GroupUse
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		pids, err := m.Processes(root + "/pod")
		if err != nil {
			t.Fatal(err)
		}
		if u, err = m.Use(root+"/pod", true); err != nil {
			t.Fatal(err)
		}
		if u.CPU.Total > 20*time.Millisecond && u.Memory != nil && u.Memory.PageFaults > 0 && // the kernel adds up every 2 s
			len(pids) == 2 && slices.Contains(pids, cmd.Process.Pid) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%+v, processes %v", u, pids)
		}
	}
	if time.Since(u.At) > time.Minute || u.Memory == nil || u.Memory.Limit != 256<<20 || u.Memory.Usage == 0 ||
		u.Tasks == nil || u.Tasks.Current < 2 || u.Tasks.Limit != 64 {
		t.Errorf("%+v %+v %+v", u, u.Memory, u.Tasks)
	}
	if n.Unified != "" && exists(n.Unified+"/cpu.pressure") && (u.CPUStall == nil || u.MemoryStall == nil || u.IOStall == nil) {
		t.Error("the kernel counts pressure, which was not read")
	}
	deep := in(t, m, root+"/pod/other/deeper", "sleep 1000")
	if pids, err := m.Processes(root + "/pod"); err != nil || !slices.Contains(pids, deep.Process.Pid) || !slices.Contains(pids, cmd.Process.Pid) {
		t.Errorf("processes %v lack %d or %d: %v", pids, deep.Process.Pid, cmd.Process.Pid, err)
	}
	used, at, err := m.CPU(root + "/pod")
	if err != nil || used < u.CPU.Total || at.Before(u.At) {
		t.Errorf("%v at %v, before %v at %v: %v", used, at, u.CPU.Total, u.At, err)
	}
	leaf, err := m.Use(root+"/pod/ctr", false)
	if err != nil || leaf.CPU.Total == 0 || leaf.Memory == nil || leaf.Devices != nil {
		t.Errorf("%+v, %v", leaf, err)
	}
	quickIsTheSame(t, m, root+"/pod/ctr")
	quickIsTheSame(t, m, root+"/pod")
	for _, path := range []string{root + "/none", root + "/pod/none/deeper"} {
		_, err := m.Use(path, true)
		_, _, cerr := m.CPU(path)
		_, perr := m.Processes(path)
		for _, err := range []error{err, cerr, perr} {
			if !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
	if _, err := m.Use("../x", false); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a path that is none: %v", err)
	}
}

func BenchmarkUse(b *testing.B) {
	n, err := Detect()
	if err != nil {
		b.Fatal(err)
	}
	m := New(n, nil)
	root := "/runtimed-test-bench"
	if err := m.CreateLeaf(b.Context(), root); err != nil {
		b.Fatal(err)
	}
	defer m.Remove(b.Context(), root)
	for b.Loop() {
		if _, err := m.Use(root, false); err != nil {
			b.Fatal(err)
		}
	}
}

// quickIsTheSame holds the quick reading against the library's, of a group that is at rest: the two must be equal once,
// because what the kernel adds up late may come between them.
func quickIsTheSame(t *testing.T, m *Manager, path string) {
	t.Helper()
	var diff string
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		quick, err := m.Use(path, false)
		if err != nil {
			t.Fatal(err)
		}
		whole, err := m.Use(path, true)
		if err != nil {
			t.Fatal(err)
		}
		// What only the detailed reading has, and what goes on by itself.
		quick.At, whole.At = time.Time{}, time.Time{}
		whole.CPU.Periods, whole.CPU.Throttled, whole.CPU.ThrottledFor, whole.Tasks, whole.Devices = 0, 0, 0, nil, nil
		if m.node.Mode != Unified { // v1 keeps them in files of their own
			whole.CPU.User, whole.CPU.System = 0, 0
		}
		if whole.Memory != nil {
			whole.Memory.MaxUsage, whole.Memory.Kernel, whole.Memory.Failures, whole.Memory.OOMKills = 0, 0, 0, 0
		}
		for _, u := range []*spec.GroupUse{&quick, &whole} {
			for _, s := range []*spec.Stalls{u.CPUStall, u.MemoryStall, u.IOStall} {
				if s != nil {
					*s = spec.Stalls{}
				}
			}
		}
		if diff = cmp.Diff(whole, quick); diff == "" {
			return
		}
	}
	t.Errorf("%s: the library's reading and the quick one differ: %s", path, diff)
}

func TestValues(t *testing.T) {
	var a, b uint64
	want := map[string]*uint64{"anon": &a, "file": &b}
	if err := values([]byte("anon 5\nfile 18446744073709551615\nother x\nlonely\n\n"), want); err != nil || a != 5 || b != none {
		t.Errorf("%d, %d, %v", a, b, err)
	}
	for _, bad := range []string{"anon x", "anon -1", "anon 1 2", "file 18446744073709551616"} {
		if err := values([]byte(bad), want); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func FuzzValues(f *testing.F) {
	for _, seed := range []string{"anon 5\nfile 6\n", "", "anon", "anon  7", "\n\n", "anon 1\nanon 2"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var a uint64
		values(text, map[string]*uint64{"anon": &a})
	})
}

func BenchmarkProcesses(b *testing.B) {
	n, err := Detect()
	if err != nil {
		b.Fatal(err)
	}
	m := New(n, nil)
	root := "/runtimed-test-benchp"
	if err := errors.Join(m.CreateLeaf(b.Context(), root), m.CreateLeaf(b.Context(), root+"/ctr")); err != nil {
		b.Fatal(err)
	}
	defer m.Remove(b.Context(), root)
	for b.Loop() {
		if _, err := m.Processes(root); err != nil {
			b.Fatal(err)
		}
	}
}
