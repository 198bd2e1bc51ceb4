package resources

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/integration/daemontest"
)

func TestMain(m *testing.M) { os.Exit(daemontest.Main(m)) }

// status is a container's status as the CRI shows it.
func status(t *testing.T, d *daemontest.Daemon, id string) *v1.ContainerStatusResponse {
	t.Helper()
	r, err := d.Conn().Runtime.ContainerStatus(daemontest.Ctx(t), &v1.ContainerStatusRequest{ContainerId: id, Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func shown(t *testing.T, d *daemontest.Daemon, id string) *v1.LinuxContainerResources {
	t.Helper()
	return status(t, d, id).Status.Resources.GetLinux()
}

func update(t *testing.T, d *daemontest.Daemon, id string, r *v1.LinuxContainerResources) error {
	t.Helper()
	_, err := d.Conn().Runtime.UpdateContainerResources(daemontest.Ctx(t), &v1.UpdateContainerResourcesRequest{ContainerId: id, Linux: r})
	return err
}

// pidOf is the container's first process, as the test sees it.
func pidOf(t *testing.T, d *daemontest.Daemon, id string) int {
	t.Helper()
	_, rest, _ := strings.Cut(status(t, d, id).Info["info"], `"pid":`)
	digits, _, _ := strings.Cut(rest, ",")
	pid, err := strconv.Atoi(digits)
	if err != nil || pid == 0 {
		t.Fatalf("container %s has process %q: %v", id, digits, err)
	}
	return pid
}

// kernel is what a process's group has: the first of the files that is there. "" where the kernel has none.
func kernel(t *testing.T, pid int, names ...string) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		for line := range strings.Lines(string(b)) {
			f := strings.SplitN(strings.TrimSpace(line), ":", 3)
			dirs := []string{"/sys/fs/cgroup/" + f[1]}
			if f[1] == "" {
				dirs = []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}
			}
			for _, dir := range dirs {
				if b, err := os.ReadFile(filepath.Join(dir, f[2], name)); err == nil {
					return strings.TrimSpace(string(b))
				}
			}
		}
	}
	return ""
}

// limits are all that the kernel has for a container, in one line.
func limits(t *testing.T, pid int) string {
	t.Helper()
	return strings.Join([]string{
		"memory", kernel(t, pid, "memory.limit_in_bytes", "memory.max"),
		"swap", kernel(t, pid, "memory.memsw.limit_in_bytes", "memory.swap.max"),
		"quota", kernel(t, pid, "cpu.cfs_quota_us", "cpu.max"), kernel(t, pid, "cpu.cfs_period_us"),
		"weight", kernel(t, pid, "cpu.shares", "cpu.weight"),
		"cpus", kernel(t, pid, "cpuset.cpus"), "pids", kernel(t, pid, "pids.max"),
	}, " ")
}

// want fails the test unless one of the answers is the value: v1's words or v2's.
func want(t *testing.T, what, got string, answers ...string) {
	t.Helper()
	for _, a := range answers {
		if got == a {
			return
		}
	}
	t.Errorf("%s is %q, not one of %q", what, got, answers)
}

// started is a daemon with a pod, and a container in it that has the limits.
func started(t *testing.T, d *daemontest.Daemon, name string, r *v1.LinuxContainerResources) (pod, ctr string) {
	t.Helper()
	p := d.PodConfig(name)
	pod = d.RunPod(p)
	c := d.ContainerConfig("main", daemontest.Sleep)
	c.Linux.Resources = r
	return pod, d.RunContainer(pod, p, c)
}

const mib = 1 << 20

func full() *v1.LinuxContainerResources {
	return &v1.LinuxContainerResources{
		MemoryLimitInBytes: 64 * mib, MemorySwapLimitInBytes: 64 * mib, CpuPeriod: 100000, CpuQuota: 50000, CpuShares: 512,
		CpusetCpus: "0", OomScoreAdj: 500, Unified: map[string]string{"pids.max": "100"},
	}
}
