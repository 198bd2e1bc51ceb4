package cgroup

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// halves are the ways to look at this machine: as it is, and as one without cgroup.kill.
func halves(n Node) map[string]Node {
	out := map[string]Node{string(n.Mode): n}
	if n.Mode == Hybrid {
		out["v1"] = Node{Mode: Legacy, Root: n.Root, V1: n.V1}
	}
	return out
}

const bombEnv = "RUNTIMED_TEST_FORK_BOMB"

// TestMain is the bomb when a test asks for it: every process forks for ever, and no failure stops it.
func TestMain(m *testing.M) {
	if os.Getenv(bombEnv) == "" {
		os.Exit(m.Run())
	}
	os.Stdin.Read(make([]byte, 1))
	bombLoop()
}

// bombLoop makes raw system calls only: a forked copy of a Go program has one thread and can do nothing else.
//
//go:nosplit
//go:norace
func bombLoop() {
	pause := syscall.Timespec{Nsec: 1e6}
	for {
		syscall.RawSyscall(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0)
		syscall.RawSyscall(syscall.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&pause)), 0, 0)
	}
}

func TestKillForkBomb(t *testing.T) {
	n, root := node(t)
	for name, half := range halves(n) {
		t.Run(name, func(t *testing.T) {
			m, pod := New(half, nil), root+"/bomb-"+name
			if err := m.Create(t.Context(), pod, &spec.Resources{Unified: map[string]string{"pids.max": "64"}}); err != nil {
				t.Fatal(err)
			}
			bomb := exec.Command("/proc/self/exe")
			bomb.Env = []string{bombEnv + "=1"}
			start(t, m, pod+"/c", bomb)
			eventually(t, "40 processes", func() bool { pids, _ := procs(half.trees(pod)[0]); return len(pids) > 40 })
			began := time.Now()
			if err := m.Kill(soon(t), pod); err != nil {
				t.Fatal(err)
			}
			empty(t, half, pod)
			t.Logf("killed in %v", time.Since(began))
			if err := m.Remove(soon(t), pod); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestKillFrozen(t *testing.T) {
	n, root := node(t)
	for name, half := range halves(n) {
		t.Run(name, func(t *testing.T) {
			m, pod := New(half, nil), root+"/cold-"+name
			if err := m.Create(t.Context(), pod, nil); err != nil {
				t.Fatal(err)
			}
			in(t, m, pod+"/c/deep", "while :; do sleep 0.01; done")
			for _, g := range []string{pod, pod + "/c/deep"} {
				freeze(t, n, g)
			}
			if err := m.Kill(soon(t), pod); err != nil {
				t.Fatal(err)
			}
			empty(t, half, pod)
			if err := m.Remove(soon(t), pod); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func freeze(t *testing.T, n Node, path string) {
	t.Helper()
	if n.Mode == Unified {
		if err := write(filepath.Join(n.Unified, path, "cgroup.freeze"), "1"); err != nil {
			t.Fatal(err)
		}
		eventually(t, "frozen", func() bool { return strings.Contains(file(t, n, path, "cgroup.events"), "frozen 1") })
		return
	}
	dir, _ := n.dir("freezer")
	eventually(t, "FROZEN", func() bool {
		// Again and again: a child that was being forked meanwhile can leave the group at FREEZING.
		if err := write(filepath.Join(dir, path, "freezer.state"), "FROZEN"); err != nil {
			t.Fatal(err)
		}
		return file(t, n, path, "freezer.state") == "FROZEN"
	})
}

// TestKillEndsWithItsContext: a process that can never be seen dead must not hold the caller.
func TestKillEndsWithItsContext(t *testing.T) {
	root := t.TempDir()
	n := Node{Mode: Legacy, Root: root, V1: []Hierarchy{{filepath.Join(root, "pids"), []string{"pids"}}}}
	os.MkdirAll(filepath.Join(root, "pids/pod"), 0o755)
	// A pretended group whose process is this one: it is not a member of /pod, so it must not be killed.
	os.WriteFile(filepath.Join(root, "pids/pod/cgroup.procs"), []byte(strconv.Itoa(os.Getpid())+"\n0\n"), 0o644)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := New(n, nil).Kill(ctx, "/pod")
	if !errdefs.IsDeadlineExceeded(err) || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
		t.Errorf("%v, want DeadlineExceeded that names the process", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	if err := New(n, nil).Kill(ctx, "/pod"); !errdefs.IsCanceled(err) {
		t.Errorf("%v, want Canceled", err)
	}
}
