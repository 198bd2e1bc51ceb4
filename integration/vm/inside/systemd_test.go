package inside

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/runtimed/runtimed/integration/daemontest"
	"github.com/runtimed/runtimed/pkg/sandbox/cgroup"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func readGroup(t *testing.T, path, file string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", path, file))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// unitsOf are the units with the id in their name that systemd still knows, failed ones among them.
func unitsOf(t *testing.T, id string) string {
	t.Helper()
	return sh(t, "systemctl list-units --all --plain --no-legend '*"+id+"*'")
}

// TestSystemdGroups: a pod's slice with its limits and the scope of its init, as the daemon makes and removes them.
func TestSystemdGroups(t *testing.T) {
	node, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := node.Driver(cgroup.Auto); got != cgroup.Systemd || err != nil {
		t.Fatalf("driver %q, %v", got, err)
	}
	m := cgroup.New(node, nil).WithSystemd()
	id := strings.Repeat("5a", 32)
	pod, err := spec.Groups{Root: "/units", Systemd: true}.Pod("/units.slice/units-qos.slice", id)
	if err != nil {
		t.Fatal(err)
	}
	limits := &spec.Resources{MemoryLimit: 64 << 20, MemorySwap: 64 << 20, CPUQuota: 50000, CPUPeriod: 100000, CPUShares: 512,
		Unified: map[string]string{"pids.max": "50", "memory.high": "50331648"}}
	want := map[string]string{"memory.max": "67108864", "memory.swap.max": "0", "cpu.max": "50000 100000", "pids.max": "50", "memory.high": "50331648"}
	check := func(after string) {
		t.Helper()
		for file, value := range want {
			if got := readGroup(t, pod, file); got != value {
				t.Errorf("after %s %s is %q, not %q", after, file, got, value)
			}
		}
		for _, c := range []string{"cpu", "memory", "pids"} {
			if got := readGroup(t, pod, "cgroup.subtree_control"); !strings.Contains(got, c) {
				t.Errorf("after %s the children get %q", after, got)
			}
		}
	}
	for range 2 {
		if err := m.Create(t.Context(), pod, limits); err != nil {
			t.Fatal(err)
		}
		check("its making")
	}
	init := spec.InitGroup(pod, id)
	if err := m.CreateLeaf(t.Context(), init); err != nil {
		t.Fatal(err)
	}
	sleeper := exec.Command("sleep", "1000")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { sleeper.Wait(); close(ended) }()
	if err := m.Join(init, sleeper.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if got := readGroup(t, init, "cgroup.procs"); got != strconv.Itoa(sleeper.Process.Pid) {
		t.Errorf("the scope holds %q", got)
	}
	sh(t, "systemctl daemon-reload")
	check("a daemon-reload")
	if found, err := m.Find(t.Context(), id); err != nil || len(found) == 0 || found[0] != pod {
		t.Errorf("found by its id: %v, %v", found, err)
	}

	if err := m.Remove(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the init outlived its pod's slice")
	}
	if err := m.Remove(t.Context(), pod); err != nil {
		t.Errorf("a second time: %v", err)
	}
	daemontest.Eventually(t, 10*time.Second, func() error {
		if left := unitsOf(t, id); left != "" {
			return &os.PathError{Op: "still known", Path: left, Err: os.ErrExist}
		}
		return nil
	})
	if _, err := os.Stat("/sys/fs/cgroup" + pod); err == nil {
		t.Error("the group is left")
	}
}

// TestSystemdOOM: a container that the OOM killer ended leaves no failed unit behind.
func TestSystemdOOM(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	d.Pull()
	p := d.PodConfig("oom")
	pod := d.RunPod(p)
	c := d.ContainerConfig("greedy", "x=a; while :; do x=$x$x; done")
	c.Linux.Resources.MemoryLimitInBytes = 32 << 20
	id := d.RunContainer(pod, p, c)
	if s := d.Ended(id); s.Reason != "OOMKilled" || s.ExitCode != 137 {
		t.Errorf("it ended with %d, %s", s.ExitCode, s.Reason)
	}
	d.RemovePod(pod)
	daemontest.Eventually(t, 10*time.Second, func() error {
		if left := unitsOf(t, id) + unitsOf(t, pod); left != "" {
			return &os.PathError{Op: "still known", Path: left, Err: os.ErrExist}
		}
		return nil
	})
}
