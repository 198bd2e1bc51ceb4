package resources

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/integration/daemontest"
)

// TestCreatedWith: what is asked for at creation is what the kernel has.
func TestCreatedWith(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	d.Pull()
	_, id := started(t, d, "created", full())
	pid := pidOf(t, d, id)
	want(t, "memory", kernel(t, pid, "memory.limit_in_bytes", "memory.max"), fmt.Sprint(64*mib))
	want(t, "swap", kernel(t, pid, "memory.memsw.limit_in_bytes", "memory.swap.max"), fmt.Sprint(64*mib), "0", "")
	want(t, "quota", kernel(t, pid, "cpu.cfs_quota_us", "cpu.max"), "50000", "50000 100000")
	want(t, "weight", kernel(t, pid, "cpu.shares", "cpu.weight"), "512", "59")
	want(t, "cpus", kernel(t, pid, "cpuset.cpus"), "0")
	want(t, "pids", kernel(t, pid, "pids.max"), "100")
	score, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
	want(t, fmt.Sprint("oom_score_adj, ", err), string(score), "500\n")
	if got := shown(t, d, id); !proto.Equal(got, full()) {
		t.Errorf("shown %v, not %v", got, full())
	}
	// Limits of a process come from a fixed baseline, whatever the daemon was started with: these are of every Linux.
	for name, line := range map[string]string{"files": "Max open files", "core": "Max core file size", "stack": "Max stack size"} {
		text := d.Exec(id, "cat /proc/1/limits")
		_, rest, _ := strings.Cut(text, line)
		fields := strings.Fields(rest)
		if len(fields) == 0 || map[string]string{"files": "1024", "core": "0", "stack": "8388608"}[name] != fields[0] {
			t.Errorf("%s: %.60q", line, rest)
		}
	}
}

// TestUpdate: each limit of a running container, at once in the kernel and in the status.
func TestUpdate(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	d.Pull()
	pod, id := started(t, d, "update", full())
	pid := pidOf(t, d, id)
	expect := full()
	for name, c := range map[string]struct {
		ask   *v1.LinuxContainerResources
		files []string
		want  []string
	}{
		"memory":        {&v1.LinuxContainerResources{MemoryLimitInBytes: 96 * mib, MemorySwapLimitInBytes: 96 * mib}, []string{"memory.limit_in_bytes", "memory.max"}, []string{fmt.Sprint(96 * mib)}},
		"quota":         {&v1.LinuxContainerResources{CpuQuota: 70000}, []string{"cpu.cfs_quota_us", "cpu.max"}, []string{"70000", "70000 100000"}},
		"shares":        {&v1.LinuxContainerResources{CpuShares: 1024}, []string{"cpu.shares", "cpu.weight"}, []string{"1024", "100"}},
		"pids":          {&v1.LinuxContainerResources{Unified: map[string]string{"pids.max": "77"}}, []string{"pids.max"}, []string{"77"}},
		"cpus":          {&v1.LinuxContainerResources{CpusetCpus: "0"}, []string{"cpuset.cpus"}, []string{"0"}},
		"oom score":     {&v1.LinuxContainerResources{OomScoreAdj: 600}, nil, nil},
		"nothing asked": {&v1.LinuxContainerResources{}, nil, nil},
	} {
		if err := update(t, d, id, c.ask); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if c.files != nil {
			want(t, name, kernel(t, pid, c.files...), c.want...)
		}
		proto.Merge(expect, c.ask)
		if got := shown(t, d, id); !proto.Equal(got, expect) {
			t.Errorf("%s: shown\n%v, not\n%v", name, got, expect)
		}
	}
	score, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
	want(t, fmt.Sprint("oom_score_adj, ", err), string(score), "600\n")

	// The pod's own group is the kubelet's: what is said of it is kept, and nothing is written.
	before := limits(t, pid)
	if _, err := d.Conn().Runtime.UpdatePodSandboxResources(daemontest.Ctx(t), &v1.UpdatePodSandboxResourcesRequest{
		PodSandboxId: pod, Resources: &v1.LinuxContainerResources{MemoryLimitInBytes: 1 * mib},
	}); err != nil {
		t.Error(err)
	}
	// Both a kill of the daemon and an end of it leave what was changed.
	d.Kill9()
	d.Restart()
	if got := limits(t, pid); got != before {
		t.Errorf("a restart of the daemon changed %q to %q", before, got)
	}
	if got := shown(t, d, id); !proto.Equal(got, expect) {
		t.Errorf("after a restart: shown\n%v, not\n%v", got, expect)
	}
}

// TestUpdateBeforeTheStart: a created container is started with what it was given since.
func TestUpdateBeforeTheStart(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	d.Pull()
	p := d.PodConfig("early")
	pod := d.RunPod(p)
	c := d.ContainerConfig("main", daemontest.Sleep)
	c.Linux.Resources = full()
	id := d.Create(pod, p, c)
	if err := update(t, d, id, &v1.LinuxContainerResources{MemoryLimitInBytes: 32 * mib, MemorySwapLimitInBytes: 32 * mib, CpuQuota: 20000}); err != nil {
		t.Fatal(err)
	}
	d.Kill9()
	d.Restart()
	if got := shown(t, d, id); got.GetMemoryLimitInBytes() != 32*mib || got.GetCpuQuota() != 20000 || got.GetCpuShares() != 512 {
		t.Errorf("shown: %v", got)
	}
	if _, err := d.Conn().Runtime.StartContainer(daemontest.Ctx(t), &v1.StartContainerRequest{ContainerId: id}); err != nil {
		t.Fatal(err)
	}
	pid := pidOf(t, d, id)
	want(t, "memory", kernel(t, pid, "memory.limit_in_bytes", "memory.max"), fmt.Sprint(32*mib))
	want(t, "quota", kernel(t, pid, "cpu.cfs_quota_us", "cpu.max"), "20000", "20000 100000")
	if _, err := d.Conn().Runtime.StopContainer(daemontest.Ctx(t), &v1.StopContainerRequest{ContainerId: id}); err != nil {
		t.Fatal(err)
	}
	if err := update(t, d, id, &v1.LinuxContainerResources{CpuShares: 5}); grpcstatus.Code(err) != codes.FailedPrecondition {
		t.Errorf("an ended one: %v", err)
	}
}

// TestRefusedAsAWhole: one thing that cannot be leaves everything as it was, and the container alive.
func TestRefusedAsAWhole(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	d.Pull()
	_, id := started(t, d, "refused", full())
	pid := pidOf(t, d, id)
	// Anonymous memory, which cannot be given back: there is no room for swap.
	d.Exec(id, "(x=$(head -c 24000000 /dev/zero | tr '\\0' x); sleep 1000; :) >/dev/null 2>&1 </dev/null &")
	used := func() bool {
		var n int64
		fmt.Sscan(kernel(t, pid, "memory.usage_in_bytes", "memory.current"), &n)
		return n > 20*mib // of 24,000,000 bytes: what can be given back beside them may be
	}
	daemontest.Eventually(t, daemontest.Patience, func() error {
		if !used() {
			return fmt.Errorf("the memory is not there yet")
		}
		return nil
	})
	before := limits(t, pid)
	for name, r := range map[string]*v1.LinuxContainerResources{
		"memory that is used": {CpuShares: 99, CpuQuota: 12345, MemoryLimitInBytes: 8 * mib, MemorySwapLimitInBytes: 8 * mib},
		"fewer pids":          {CpuQuota: 12345, Unified: map[string]string{"pids.max": "1"}},
		"CPUs of nobody":      {MemoryLimitInBytes: 100 * mib, CpusetCpus: "0-999"},
		"huge pages of 3 MB":  {CpuShares: 99, HugepageLimits: []*v1.HugepageLimit{{PageSize: "3MB"}}},
	} {
		err := update(t, d, id, r)
		if c := grpcstatus.Code(err); c != codes.FailedPrecondition && c != codes.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
		if got := limits(t, pid); got != before {
			t.Errorf("%s has changed\n%q to\n%q", name, before, got)
		}
		if got := shown(t, d, id); !proto.Equal(got, full()) {
			t.Errorf("%s: shown %v", name, got)
		}
	}
	if s := status(t, d, id).Status; s.State != v1.ContainerState_CONTAINER_RUNNING || !used() {
		t.Errorf("a refused limit has ended a process: %v", s)
	}
}
