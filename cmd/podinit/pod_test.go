//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/cgroup"
	"github.com/runtimed/runtimed/pkg/sandbox/namespaces"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

const (
	ownMounts = "RUNTIMED_TEST_OWN_MOUNTS"
	sid       = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"
)

// TestMain runs the tests in a mount namespace of their own.
func TestMain(m *testing.M) {
	if os.Getenv(ownMounts) != "" {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			panic(err)
		}
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), ownMounts+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// program is the one beside the test's, where there is no Go; else it is built.
func program(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "runtimed-init")
	build := exec.Command("go", "build", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		if path, err = filepath.Abs("runtimed-init"); err == nil {
			_, err = os.Stat(path)
		}
		if err != nil {
			t.Fatalf("%s", out)
		}
	}
	return path
}

// TestInitInItsCgroup: a pod with real groups and a shared PID namespace, from the first group to the last.
func TestInitInItsCgroup(t *testing.T) {
	node, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	groups := cgroup.New(node, nil)
	root := fmt.Sprintf("/runtimed-test-%d-init", os.Getpid())
	base := t.TempDir()
	l := spec.Layout{Run: filepath.Join(base, "run"), Netns: filepath.Join(base, "netns")}
	m := namespaces.New(namespaces.Options{Layout: l, Init: program(t), Groups: groups})
	ids := []spec.IDMapping{{HostID: 0x40000000, Size: 65536}}
	request := spec.NamespaceRequest{SandboxID: sid, User: true, UIDs: ids, GIDs: ids, Net: true, IPC: true, UTS: true, Hostname: "pod"}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	t.Cleanup(func() {
		for _, err := range []error{groups.Remove(context.Background(), root), m.Remove(context.Background(), sid), namespaces.ReleaseRun(l),
			unix.Unmount(l.Netns, unix.MNT_DETACH)} {
			if err != nil {
				t.Error(err)
			}
		}
	})
	for _, err := range []error{namespaces.PrepareRun(l), m.Create(ctx, request),
		groups.Create(ctx, root+"/pod", &spec.Resources{MemoryLimit: 64 << 20, Unified: map[string]string{"pids.max": "50"}})} {
		if err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	p, err := m.StartInit(ctx, spec.InitRequest{SandboxID: sid, CgroupPath: root + "/pod/init"})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the init started in %v", time.Since(began))
	membership, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", p.PID))
	for line := range strings.Lines(string(membership)) {
		if !strings.HasSuffix(strings.TrimSpace(line), root+"/pod/init") {
			t.Errorf("in the group %q", line)
		}
	}
	cmd := exec.Command("nsenter", "--target", strconv.Itoa(p.PID), "--user", "--pid", "--", "sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// As a shim would: a child that nobody reaps keeps its PID namespace, and the init waits for it in the kernel.
	done := make(chan struct{})
	go func() { cmd.Wait(); close(done) }()
	if err := groups.CreateLeaf(ctx, root+"/pod/c1"); err != nil {
		t.Fatal(err)
	}
	if err := groups.Join(root+"/pod/c1", cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if err := groups.Kill(ctx, root+"/pod"); err != nil {
		t.Fatal(err)
	}
	<-done
	for i := 0; !slices.Contains([]string{"", "Z", "X"}, stateOf(p.PID)); i++ {
		if i == 2000 {
			t.Fatalf("the init is in state %q after its group was killed", stateOf(p.PID))
		}
		time.Sleep(5 * time.Millisecond)
	}
	if err := groups.Remove(ctx, root+"/pod"); err != nil {
		t.Error(err)
	}
}

func stateOf(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	return strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))[0]
}
