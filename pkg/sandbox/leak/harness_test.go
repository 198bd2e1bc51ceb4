package leak

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/cgroup"
	"github.com/runtimed/runtimed/pkg/sandbox/network"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/state"
)

const (
	namespaceMark = "RUNTIMED_LEAK_TEST_NAMESPACE"
	sleeperMark   = "RUNTIMED_LEAK_TEST_SLEEPER"
)

// TestMain runs everything in network and mount namespaces of its own. The same binary is the process that leaks.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv(sleeperMark) != "":
		io.Copy(io.Discard, os.Stdin) // until the test ends
		os.Exit(0)
	case os.Getenv(namespaceMark) != "":
		must(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
		os.Exit(m.Run())
	}
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Env = append(os.Environ(), namespaceMark+"=1")
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err := c.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		os.Exit(exit.ExitCode())
	}
	must(err)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func newID() string {
	var b [32]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// world is a node with a daemon's directories and group, and nothing in them.
type world struct {
	t     *testing.T
	o     Options
	store state.Store
	boot  string
	next  uint32
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "rt-leak-")
	must(err)
	node, err := cgroup.Detect()
	must(err)
	subnets, err := network.ParseSubnets([]string{"10.99.0.0/24"})
	must(err)
	w := &world{t: t, o: Options{
		Layout:     spec.Layout{Root: dir + "/root", Run: dir + "/run", Netns: dir + "/netns"},
		CgroupRoot: "/runtimed-test-leak-" + newID()[:8], Cgroups: cgroup.New(node, nil),
		Network: network.Config{Bridge: "rtleak0", Table: "rtleak", Subnets: subnets, NetnsDir: dir + "/netns"},
		Pool:    Pool{Start: 0x7a000000, Size: 65536, Count: 16},
	}}
	w.store, err = state.Open(w.o.Layout)
	must(err)
	for _, d := range []string{"", "ns", "shims", "shm", "rootfs"} {
		must(os.MkdirAll(filepath.Join(w.o.Layout.Run, d), 0o700))
	}
	must(os.MkdirAll(w.o.Layout.Netns, 0o755))
	must(unix.Mount(w.o.Layout.Run, w.o.Layout.Run, "", unix.MS_BIND, ""))
	must(unix.Mount("", w.o.Layout.Run, "", unix.MS_PRIVATE, ""))
	must(w.o.Cgroups.CreateLeaf(t.Context(), w.o.CgroupRoot+"/shims"))
	must(w.o.Cgroups.Create(t.Context(), w.o.CgroupRoot+"/pods", nil))
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	must(err)
	w.boot = strings.TrimSpace(string(b))
	t.Cleanup(func() {
		if err := w.o.Cgroups.Remove(context.Background(), w.o.CgroupRoot); err != nil {
			t.Errorf("groups of the test: %v", err)
		}
		exec.Command("umount", "-R", "-l", dir+"/run").Run()
		os.RemoveAll(dir)
	})
	return w
}

// sandbox records a ready sandbox with a range of its own and one running container.
func (w *world) sandbox(change func(*spec.Sandbox, *spec.Container)) (sid, cid string) {
	w.t.Helper()
	ids := []spec.IDMapping{{HostID: w.o.Pool.Start + w.next*w.o.Pool.Size, Size: w.o.Pool.Size}}
	w.next++
	s := spec.Sandbox{Version: spec.RecordVersion, ID: newID(), BootID: w.boot, Profile: spec.SandboxProfile{UserNamespace: true, UIDs: ids, GIDs: ids}}
	s.CgroupPath = w.o.CgroupRoot + "/pods/" + s.ID
	c := spec.Container{Version: spec.RecordVersion, ID: newID(), SandboxID: s.ID, BootID: w.boot, CgroupPath: s.CgroupPath}
	if change != nil {
		change(&s, &c)
	}
	must(w.store.AddSandbox(s))
	must(w.store.AddContainer(c))
	dir := w.o.Layout.Sandbox(s.ID)
	must(state.WriteOnce(dir, spec.StatusFile, spec.SandboxStatus{Version: spec.RecordVersion, ReadyAt: 1}))
	must(state.WriteOnce(w.o.Layout.Container(s.ID, c.ID), spec.StatusFile, spec.ContainerStatus{Version: spec.RecordVersion, StartingAt: 1}))
	return s.ID, c.ID
}

// sleeper starts a process that ends with the test.
func (w *world) sleeper(path string, uid uint32, args ...string) int {
	w.t.Helper()
	cmd := exec.Command(path)
	cmd.Args = append([]string{filepath.Base(path)}, args...)
	cmd.Env = []string{sleeperMark + "=1"}
	in, err := cmd.StdinPipe()
	must(err)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	must(cmd.Start())
	w.t.Cleanup(func() {
		in.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd.Process.Pid
}

// program is a copy of this binary with another name, which everybody may execute.
func (w *world) program(name string) string {
	w.t.Helper()
	dir, err := os.MkdirTemp("/tmp", "rt-leak-bin-")
	must(err)
	must(os.Chmod(dir, 0o755))
	w.t.Cleanup(func() { os.RemoveAll(dir) })
	b, err := os.ReadFile("/proc/self/exe")
	must(err)
	path := filepath.Join(dir, name)
	must(os.WriteFile(path, b, 0o755))
	return path
}

func (w *world) join(path string, pid int) {
	w.t.Helper()
	must(w.o.Cgroups.CreateLeaf(w.t.Context(), path))
	must(w.o.Cgroups.Join(path, pid))
}

// pin pins a namespace of this process at path.
func (w *world) pin(kind, path string) {
	w.t.Helper()
	must(os.MkdirAll(filepath.Dir(path), 0o700))
	must(os.WriteFile(path, nil, 0o600))
	must(unix.Mount("/proc/self/ns/"+kind, path, "", unix.MS_BIND, ""))
	w.t.Cleanup(func() { unix.Unmount(path, unix.MNT_DETACH) })
}

func (w *world) tmpfs(path string) {
	w.t.Helper()
	must(os.MkdirAll(path, 0o700))
	must(unix.Mount("tmpfs", path, "tmpfs", 0, ""))
	w.t.Cleanup(func() { unix.Unmount(path, unix.MNT_DETACH) })
}

// netns pins a new network namespace as a sandbox's.
func (w *world) netns(sid string) {
	w.t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{sleeperMark + "=1"}
	in, err := cmd.StdinPipe()
	must(err)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	must(cmd.Start())
	path := w.o.Layout.NetnsPin(sid)
	must(os.WriteFile(path, nil, 0o600))
	must(unix.Mount(fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid), path, "", unix.MS_BIND, ""))
	in.Close()
	cmd.Wait()
	w.t.Cleanup(func() { unix.Unmount(path, unix.MNT_DETACH) })
}

func (w *world) find() []Leak {
	w.t.Helper()
	found, err := Find(w.t.Context(), w.o)
	if err != nil {
		w.t.Fatal(err)
	}
	return found
}

// clean waits until nothing is found: a process that was just killed is seen for a moment.
func (w *world) clean(when string) {
	w.t.Helper()
	var found []Leak
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if found = w.find(); len(found) == 0 {
			return
		}
	}
	w.t.Errorf("%s: %v", when, found)
}
