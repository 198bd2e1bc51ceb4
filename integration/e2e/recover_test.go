package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/integration/daemontest"
)

// shim finds the container's monitor.
func shim(t *testing.T, id string) int {
	t.Helper()
	for _, p := range daemontest.Processes() {
		if filepath.Base(p.Args[0]) == "runtimed-monitor" && strings.Contains(strings.Join(p.Args, " "), id) {
			return p.PID
		}
	}
	t.Fatalf("container %s has no monitor", id)
	return 0
}

// first is the pid of the container's first process on the node: the monitor's only child.
func first(t *testing.T, id string) int {
	t.Helper()
	monitor := shim(t, id)
	for _, p := range daemontest.Processes() {
		if p.PPID == monitor {
			return p.PID
		}
	}
	t.Fatalf("the monitor of %s has no child", id)
	return 0
}

func alive(pid int) bool { return unix.Kill(pid, 0) == nil }

// A daemon that comes back finds what runs running, what ended meanwhile ended as it did, and a later end right.
func TestKilledDaemonComesBack(t *testing.T) {
	d := started(t, daemontest.Options{})
	p := d.PodConfig("back")
	pod := d.RunPod(p)
	wait := "until test -e /go; do sleep 0.05; done; exit %d"
	stays := d.RunContainer(pod, p, d.ContainerConfig("stays", fmt.Sprintf(wait, 21)))
	c := d.ContainerConfig("ends", fmt.Sprintf("sleep 1; "+wait, 22))
	ends := d.RunContainer(pod, p, c)
	killed := d.RunContainer(pod, p, d.ContainerConfig("killed", daemontest.Sleep))
	created := d.Create(pod, p, d.ContainerConfig("created", "exit 23"))
	before := d.Status(stays)
	d.Exec(ends, "touch /go")
	pid := first(t, killed)
	d.Kill9()
	unix.Kill(pid, unix.SIGKILL)
	down := time.Now()
	time.Sleep(1500 * time.Millisecond) // the container that ends has its exit in this time
	d.Restart()
	if s := d.Status(stays); s.State != v1.ContainerState_CONTAINER_RUNNING || s.StartedAt != before.StartedAt {
		t.Errorf("a running container came back as %v", s)
	}
	for id, code := range map[string]int32{ends: 22, killed: 137} {
		s := d.Ended(id)
		if s.ExitCode != code || s.Reason != "Error" || s.FinishedAt < down.Add(-2*time.Second).UnixNano() || s.FinishedAt > time.Now().UnixNano() {
			t.Errorf("a container that ended meanwhile: %d, not %d; %v", s.ExitCode, code, s)
		}
	}
	d.StartContainer(created)
	if s := d.Ended(created); s.ExitCode != 23 {
		t.Errorf("a created container started after the daemon came back: %v", s)
	}
	d.Exec(stays, "touch /go")
	if s := d.Ended(stays); s.ExitCode != 21 {
		t.Errorf("a container that was found running ended with %d", s.ExitCode)
	}
	if again := d.RunPod(p); again != pod {
		t.Errorf("the same request made a second pod")
	}
}

// A killed shim is a killed container, reported as such; also when the daemon died with it.
func TestKilledShim(t *testing.T) {
	d := started(t, daemontest.Options{})
	pod, id, p := oneContainer(t, d, "shims")
	other := d.RunContainer(pod, p, d.ContainerConfig("other", daemontest.Sleep))
	gone := func(id string, pid int) {
		t.Helper()
		daemontest.Eventually(t, daemontest.Slow(2*time.Second), func() error {
			if s := d.Status(id); s.State != v1.ContainerState_CONTAINER_EXITED || s.ExitCode != 137 || s.FinishedAt == 0 || s.Reason == "" || s.Reason == "Completed" {
				return fmt.Errorf("status %v", s)
			}
			if alive(pid) {
				return fmt.Errorf("the container's process runs on")
			}
			return nil
		})
		t.Logf("%q: %s", d.Status(id).Reason, d.Status(id).Message)
	}
	pid := first(t, id)
	unix.Kill(shim(t, id), unix.SIGKILL)
	gone(id, pid)

	pid = first(t, other)
	monitor := shim(t, other)
	d.Kill9()
	unix.Kill(monitor, unix.SIGKILL)
	d.Restart()
	gone(other, pid)
}

// A shim that does not answer keeps nobody waiting.
func TestStoppedShim(t *testing.T) {
	d := started(t, daemontest.Options{})
	pod, id, p := oneContainer(t, d, "frozen")
	monitor := shim(t, id)
	unix.Kill(monitor, unix.SIGSTOP)
	t.Cleanup(func() { unix.Kill(monitor, unix.SIGCONT) })
	const limit = 2 * time.Second
	calls := func() {
		within(t, limit/2, "ListContainers", func() {
			if _, err := d.Conn().Runtime.ListContainers(daemontest.Ctx(t), &v1.ListContainersRequest{}); err != nil {
				t.Error(err)
			}
		})
		within(t, limit/2, "ContainerStatus", func() {
			if s := d.Status(id); s.State != v1.ContainerState_CONTAINER_RUNNING {
				t.Errorf("status %v", s)
			}
		})
		within(t, limit, "ReopenContainerLog", func() {
			if _, err := d.Conn().Runtime.ReopenContainerLog(daemontest.Ctx(t), &v1.ReopenContainerLogRequest{ContainerId: id}); err == nil {
				t.Error("a shim that does not answer reopened its log")
			}
		})
		within(t, limit, "ExecSync", func() { d.Exec(id, "true") })
		within(t, limit, "PodSandboxStatus", func() {
			if _, err := d.Conn().Runtime.PodSandboxStatus(daemontest.Ctx(t), &v1.PodSandboxStatusRequest{PodSandboxId: pod, Verbose: true}); err != nil {
				t.Error(err)
			}
		})
	}
	calls()
	d.Kill9()
	within(t, limit, "a restart", d.Restart)
	calls()
	within(t, limit, "a neighbour's start", func() { d.RunContainer(pod, p, d.ContainerConfig("neighbour", daemontest.Sleep)) })
	within(t, limit, "StopContainer", func() {
		if _, err := d.Conn().Runtime.StopContainer(daemontest.Ctx(t), &v1.StopContainerRequest{ContainerId: id, Timeout: 0}); err != nil {
			t.Log("StopContainer:", err)
		}
	})
	if s := d.Ended(id); s.ExitCode != 137 {
		t.Errorf("its end: %v", s)
	}
}

var bootID = regexp.MustCompile(`("[Bb]oot_?[Ii][Dd]": ?)"[^"]*"`)

// After a restart of the node everything has ended and can be removed.
func TestAnotherBoot(t *testing.T) {
	d := started(t, daemontest.Options{})
	pod, id, p := oneContainer(t, d, "boot")
	ended := d.RunContainer(pod, p, d.ContainerConfig("ended", "exit 9"))
	d.Ended(ended)
	created := d.Create(pod, p, d.ContainerConfig("created", "true"))
	pid := first(t, id)
	d.Kill9()
	changed := 0
	filepath.WalkDir(filepath.Join(d.Layout.Root, "sandboxes"), func(path string, e os.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".json" {
			return nil
		}
		if b, _ := os.ReadFile(path); bootID.Match(b) {
			changed++
			os.WriteFile(path, bootID.ReplaceAll(b, []byte(`$1"00000000-1111-2222-3333-444444444444"`)), 0o600)
		}
		return nil
	})
	if changed < 4 {
		t.Fatalf("only %d records name a boot", changed)
	}
	d.Restart()
	for id, code := range map[string]int32{id: 0, ended: 9} {
		if s := d.Status(id); s.State != v1.ContainerState_CONTAINER_EXITED || (code != 0 && s.ExitCode != code) || s.FinishedAt == 0 {
			t.Errorf("after another boot: %v", s)
		} else {
			t.Logf("%d %q: %s", s.ExitCode, s.Reason, s.Message)
		}
	}
	if alive(pid) {
		t.Error("a process that nobody knows runs on")
	}
	if _, err := d.Conn().Runtime.StartContainer(daemontest.Ctx(t), &v1.StartContainerRequest{ContainerId: created}); err == nil {
		t.Error("a container of another boot was started in a pod that is not ready")
	}
	r, err := d.Conn().Runtime.PodSandboxStatus(daemontest.Ctx(t), &v1.PodSandboxStatusRequest{PodSandboxId: pod})
	if err != nil || r.Status.State != v1.PodSandboxState_SANDBOX_NOTREADY {
		t.Errorf("the pod: %v, %v", r, err)
	}
	d.RemovePod(pod)
}

// Every record, emptied, torn and scrambled: the daemon starts, says what it set aside, the names are free, and what the
// kernel held for them is gone when everything else is removed.
func TestDamagedRecords(t *testing.T) {
	damages := map[string]func([]byte) []byte{
		"emptied": func([]byte) []byte { return nil },
		"torn":    func(b []byte) []byte { return b[:len(b)/2] },
		"scrambled": func(b []byte) []byte {
			out := make([]byte, len(b))
			for i := range b {
				out[i] = b[i] ^ byte(i*7+13)
			}
			return out
		},
	}
	files := []string{"spec.json", "status.json", "network.json", "containers/*/spec.json", "containers/*/status.json", "containers/*/started.json",
		"containers/*/exit.json", "containers/*/config.json", "containers/*/launch.json"}
	d := daemontest.Start(t, daemontest.Options{})
	d.Warm()
	before := d.Snapshot()
	pods := map[string]string{} // id by name
	for i, file := range files {
		for how := range damages {
			name := fmt.Sprintf("%s-%d", how, i)
			p := d.PodConfig(name)
			pods[name] = d.RunPod(p)
			script := daemontest.Sleep
			if strings.HasSuffix(file, "exit.json") {
				script = "exit 3"
			}
			c := d.RunContainer(pods[name], p, d.ContainerConfig("main", script))
			if script != daemontest.Sleep {
				d.Ended(c)
			}
		}
	}
	d.Kill9()
	for i, file := range files {
		for how, damage := range damages {
			found, _ := filepath.Glob(filepath.Join(d.Layout.Sandbox(pods[fmt.Sprintf("%s-%d", how, i)]), file))
			if len(found) != 1 {
				t.Fatalf("%s: %v", file, found)
			}
			b, err := os.ReadFile(found[0])
			if err == nil {
				err = os.WriteFile(found[0], damage(b), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	within(t, 5*time.Second, "the restart", d.Restart)
	log, _ := os.ReadFile(d.LogFile)
	for i, file := range files[:1] {
		for how := range damages {
			if id := pods[fmt.Sprintf("%s-%d", how, i)]; !strings.Contains(string(log[strings.LastIndex(string(log), "trust.mode"):]), id) {
				t.Errorf("the log does not name %s, whose %s was %s", id, file, how)
			}
		}
	}
	for name := range pods {
		p := d.PodConfig(name)
		pod := d.RunPod(p)
		r, err := d.Conn().Runtime.ListContainers(daemontest.Ctx(t), &v1.ListContainersRequest{Filter: &v1.ContainerFilter{PodSandboxId: pod}})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: same pod %v, %v", name, pod == pods[name], states(r.Containers))
		c := d.ContainerConfig("fresh", daemontest.Sleep)
		d.RunContainer(pod, p, c)
	}
	d.RemoveAll()
	os.RemoveAll(d.Logs)
	for _, line := range daemontest.Diff(before, d.Snapshot()) {
		if !strings.Contains(line, d.Layout.Quarantine()) {
			t.Errorf("left: %s", line)
		}
	}
}

func states(list []*v1.Container) (out []string) {
	for _, c := range list {
		out = append(out, c.State.String())
	}
	return out
}
