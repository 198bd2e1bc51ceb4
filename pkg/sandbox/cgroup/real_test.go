package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

// node returns this machine's layout and a root below which the test may do as it likes.
func node(t *testing.T) (Node, string) {
	t.Helper()
	n, err := Detect()
	if err != nil {
		t.Fatal(err)
	}
	root := fmt.Sprintf("/runtimed-test-%d-%s", os.Getpid(), strings.ToLower(t.Name()[:8]))
	root = strings.ReplaceAll(root, "/test", "/t")
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := New(n, nil).Remove(ctx, root); err != nil {
			t.Errorf("clean up: %v", err)
		}
		for _, dir := range n.trees(root) {
			if exists(dir) {
				t.Errorf("%s is left", dir)
			}
		}
	})
	return n, root
}

// in starts a shell in the group, placed before it runs its script, and kills it at the end.
func in(t *testing.T, m *Manager, path, script string) *exec.Cmd {
	t.Helper()
	return start(t, m, path, exec.Command("/bin/sh", "-c", "read go; "+script))
}

// start starts cmd, which waits for a line on its stdin, in the group.
func start(t *testing.T, m *Manager, path string, cmd *exec.Cmd) *exec.Cmd {
	t.Helper()
	if err := m.CreateLeaf(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { cmd.Wait(); close(done) }()
	t.Cleanup(func() { cmd.Process.Kill(); m.Kill(context.Background(), path); <-done })
	if err := m.Join(path, cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if _, err := stdin.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 12000 {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("never: %s", what)
}

// file reads a file of the group, from whichever hierarchy has it.
func file(t *testing.T, n Node, path, name string) string {
	t.Helper()
	for _, dir := range n.trees(path) {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
			return strings.TrimSpace(string(b))
		}
	}
	t.Fatalf("no %s in %s", name, path)
	return ""
}

func empty(t *testing.T, n Node, path string) {
	t.Helper()
	for _, dir := range n.trees(path) {
		if pids, err := procs(dir); err != nil || len(pids) > 0 {
			t.Errorf("%s holds %v, %v", dir, pids, err)
		}
	}
}

func TestLimitsAreTheKernels(t *testing.T) {
	n, root := node(t)
	m := New(n, nil)
	r := &spec.Resources{MemoryLimit: 64 << 20, CPUShares: 512, CPUQuota: 50000, CPUPeriod: 100000, CPUSetCPUs: "0",
		Unified: map[string]string{"pids.max": "64"}}
	for range 2 { // the second time on a group that is there
		if err := m.Create(t.Context(), root+"/a/pod", r); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]string{"memory.limit_in_bytes": "67108864", "cpu.shares": "512", "cpu.cfs_quota_us": "50000",
		"cpu.cfs_period_us": "100000", "cpuset.cpus": "0", "pids.max": "64", "memory.use_hierarchy": "1"}
	if n.Mode == Unified {
		want = map[string]string{"memory.max": "67108864", "cpu.weight": "59", "cpu.max": "50000 100000", "cpuset.cpus": "0",
			"pids.max": "64"}
	}
	for name, v := range want {
		if got := file(t, n, root+"/a/pod", name); got != v {
			t.Errorf("%s = %q, want %q", name, got, v)
		}
	}
	if got := file(t, n, root+"/a", "pids.max"); got != "max" {
		t.Errorf("the parent got a limit: %q", got)
	}
	if n.Mode != Unified {
		if got := file(t, n, root+"/a", "cpuset.mems"); got == "" {
			t.Error("a parent without memory nodes cannot hold a process")
		}
	}
	for _, dir := range n.trees(root + "/a/pod") {
		if !exists(dir) {
			t.Errorf("no group %s", dir)
		}
	}
}

func TestKernelRefusals(t *testing.T) {
	n, root := node(t)
	m := New(n, nil)
	err := m.Create(t.Context(), root+"/pod", &spec.Resources{CPUSetCPUs: "4095"})
	// v2 takes a CPU that is possible but not there, and uses the parent's.
	if !errdefs.IsInvalidArgument(err) && (err != nil || n.Mode != Unified) {
		t.Errorf("a CPU that is not there: %v, want InvalidArgument", err)
	}
	if n.Mode == Unified {
		err = m.Create(t.Context(), root+"/pod2", &spec.Resources{Unified: map[string]string{"memory.nonsense": "1"}})
		if !errdefs.IsInvalidArgument(err) {
			t.Errorf("a file that is not there: %v, want InvalidArgument", err)
		}
	}
	if err := m.Join(root+"/none", os.Getpid()); !errdefs.IsNotFound(err) {
		t.Errorf("join where nothing is: %v, want NotFound", err)
	}
}

func TestRemoveNestedWithProcesses(t *testing.T) {
	n, root := node(t)
	m := New(n, nil)
	if err := m.Create(t.Context(), root+"/pod", nil); err != nil {
		t.Fatal(err)
	}
	in(t, m, root+"/pod/init", "sleep 1000")
	in(t, m, root+"/pod/c1/a/b", "sleep 1000 & sleep 1000")
	in(t, m, root+"/pod/c2", "trap '' TERM INT HUP; while :; do sleep 1000; done")
	in(t, m, root+"/neighbour/c1", "sleep 1000")
	if err := m.RemoveEmpty(root + "/pod"); err != nil || !exists(n.trees(root + "/pod")[0]) {
		t.Fatalf("RemoveEmpty of a group with children: %v, or it is gone", err)
	}
	for i := range 3 {
		if err := m.Remove(soon(t), root+"/pod"); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		for _, dir := range n.trees(root + "/pod") {
			if exists(dir) {
				t.Errorf("%s is left", dir)
			}
		}
	}
	if pids, _ := procs(n.trees(root + "/neighbour")[0]); len(pids) == 0 {
		t.Error("the neighbour was killed too")
	}
	if err := m.Kill(soon(t), root+"/pod"); err != nil {
		t.Errorf("kill of what is not there: %v", err)
	}
}

func TestBelow(t *testing.T) {
	n, root := node(t)
	m := New(n, nil)
	if names, err := m.Below(root + "/pod"); err != nil || len(names) > 0 {
		t.Errorf("of nothing: %q, %v", names, err)
	}
	for _, p := range []string{"/pod/b", "/pod/a/inside"} {
		if err := m.Create(t.Context(), root+p, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.CreateLeaf(t.Context(), root+"/pod/only"); err != nil { // may be in one hierarchy alone
		t.Fatal(err)
	}
	if names, err := m.Below(root + "/pod"); err != nil || strings.Join(names, " ") != "a b only" {
		t.Errorf("%q, %v", names, err)
	}
	if _, err := m.Below("../x"); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("a bad path: %v", err)
	}
}

// TestEveryStepFails makes each step of Create and Remove fail once; Remove then takes down whatever there is.
func TestEveryStepFails(t *testing.T) {
	n, root := node(t)
	var names []string
	record := func(e step.Event) error {
		if e.Phase == step.Doing || e.Phase == step.Undoing {
			names = append(names, string(e.Phase)+" "+e.Step)
		}
		return nil
	}
	m := New(n, record)
	if err := errors.Join(m.Create(t.Context(), root+"/pod", nil), m.Remove(soon(t), root+"/pod")); err != nil {
		t.Fatal(err)
	}
	if len(names) < 4 {
		t.Fatalf("only the steps %q", names)
	}
	for _, name := range names {
		planted := errors.New("planted")
		hit := false
		m := New(n, func(e step.Event) error {
			if string(e.Phase)+" "+e.Step == name {
				hit = true
				return planted
			}
			return nil
		})
		err := errors.Join(m.Create(t.Context(), root+"/pod", nil), m.Remove(soon(t), root+"/pod"))
		if !hit || !errors.Is(err, planted) {
			t.Errorf("%s: hit %v, %v", name, hit, err)
		}
		if err := New(n, nil).Remove(soon(t), root+"/pod"); err != nil {
			t.Errorf("after %s: %v", name, err)
		}
		for _, dir := range n.trees(root + "/pod") {
			if exists(dir) {
				t.Errorf("after %s: %s is left", name, dir)
			}
		}
	}
}

func TestTwoDaemonsAndLeaks(t *testing.T) {
	n, root := node(t)
	a, b := New(n, nil), New(n, nil)
	for _, p := range []string{"/a/pod-one", "/a/pod-two", "/a/shims", "/b/pod-one", "/b/three"} {
		if err := a.Create(t.Context(), root+p, nil); err != nil {
			t.Fatal(err)
		}
	}
	in(t, b, root+"/b/pod-one/c", "sleep 1000")
	got, err := a.Leaks(root+"/a", map[string]bool{"one": true, "shims": true})
	if err != nil || len(got) != 1 || !strings.HasPrefix(got[0], root+"/a/pod-two (") {
		t.Errorf("leaks of a: %q, %v", got, err)
	}
	if got, err := a.Leaks(root+"/nothing", nil); err != nil || len(got) != 0 {
		t.Errorf("leaks where nothing is: %q, %v", got, err)
	}
	if err := a.Remove(soon(t), root+"/a"); err != nil {
		t.Fatal(err)
	}
	if pids, err := procs(n.trees(root + "/b/pod-one")[0]); err != nil || len(pids) == 0 {
		t.Errorf("removing a's root killed in b's: %v, %v", pids, err)
	}
	if got, _ := b.Leaks(root+"/b", nil); len(got) != 2 {
		t.Errorf("leaks of b: %q", got)
	}
}

// TestRemoveEmpty leaves a parent as long as somebody uses it.
func TestRemoveEmpty(t *testing.T) {
	n, root := node(t)
	m := New(n, nil)
	if err := m.CreateLeaf(t.Context(), root+"/x"); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{root + "/x", root + "/x", root} {
		if err := m.RemoveEmpty(path); err != nil {
			t.Fatal(err)
		}
	}
	if exists(n.trees(root)[0]) {
		t.Error("an empty root is left")
	}
}

// TestOnlyLeavesHoldProcesses: cgroup v2's rule is kept by the shape of the tree on every node.
func TestOnlyLeavesHoldProcesses(t *testing.T) {
	n, root := node(t)
	if n.Mode != Unified {
		t.Logf("%s: the kernel's side of this rule shows only on v2", n.Mode)
	}
	m := New(n, nil)
	if err := m.Create(t.Context(), root+"/pod", &spec.Resources{MemoryLimit: 32 << 20}); err != nil {
		t.Fatal(err)
	}
	p := in(t, m, root+"/pod/init", "sleep 1000")
	if n.Mode == Unified {
		if err := m.Join(root+"/pod", p.Process.Pid); err == nil {
			t.Error("the inner group took a process")
		}
		if got := file(t, n, root+"/pod", "cgroup.subtree_control"); !strings.Contains(got, "memory") {
			t.Errorf("the pod's children get %q", got)
		}
		if err := m.CreateLeaf(t.Context(), root+"/pod/init/below"); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("children of a group with processes: %v, want FailedPrecondition", err)
		}
	}
}
