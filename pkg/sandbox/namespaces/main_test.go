package namespaces

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

const ownMounts = "RUNTIMED_TEST_OWN_MOUNTS"

// program is runtimed-init, built once.
var program string

// TestMain runs the tests in a mount namespace of their own: pins and run directories of a test never reach the machine.
func TestMain(m *testing.M) {
	if os.Getenv(ownMounts) == "" {
		os.Exit(again())
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		panic(err)
	}
	dir, err := os.MkdirTemp("", "runtimed-test-")
	if err != nil {
		panic(err)
	}
	program = filepath.Join(dir, "runtimed-init")
	build := exec.Command("go", "build", "-o", program, "github.com/runtimed/runtimed/cmd/podinit")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		// Where there is no Go, as in a test machine, the program lies beside the test's.
		program, err = filepath.Abs("runtimed-init")
		if _, missing := os.Stat(program); err != nil || missing != nil {
			panic(string(out))
		}
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func again() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), ownMounts+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

const sid = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// fakeGroups stand for cgroups where a test is not about them.
type fakeGroups struct{ joined []int }

func (f *fakeGroups) CreateLeaf(context.Context, string) error { return nil }
func (f *fakeGroups) Join(_ string, pid int) error             { f.joined = append(f.joined, pid); return nil }

func newManager(t *testing.T) *Manager {
	t.Helper()
	base := t.TempDir()
	l := spec.Layout{Root: filepath.Join(base, "root"), Run: filepath.Join(base, "run"), Netns: filepath.Join(base, "netns")}
	if err := PrepareRun(l); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, err := range []error{ReleaseRun(l), unmount(l.Netns)} {
			if err != nil {
				t.Error(err)
			}
		}
		if left := mountsBelow(t, base); len(left) > 0 {
			t.Errorf("mounts left: %q", left)
		}
	})
	return New(Options{Layout: l, Init: program, Groups: &fakeGroups{}})
}

// mountsBelow are the mount points below dir.
func mountsBelow(t *testing.T, dir string) (out []string) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if p := strings.Fields(line)[4]; strings.HasPrefix(p, dir) {
			out = append(out, p)
		}
	}
	return out
}

func request() spec.NamespaceRequest {
	ids := []spec.IDMapping{{HostID: 0x40000000, Size: 65536}}
	return spec.NamespaceRequest{SandboxID: sid, User: true, UIDs: ids, GIDs: ids, Net: true, IPC: true, UTS: true,
		Hostname: "pod-1.example", Sysctls: map[string]string{"net.ipv4.ping_group_range": "0 65535",
			"net.ipv4.ip_unprivileged_port_start": "0", "kernel.shmmni": "77", "fs.mqueue.msg_max": "11"}}
}

func create(t *testing.T, m *Manager, r spec.NamespaceRequest) {
	t.Helper()
	if err := m.Create(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Remove(context.Background(), r.SandboxID); err != nil {
			t.Error(err)
		}
	})
}

// inside runs a shell in the sandbox's pinned namespaces, as its root.
func inside(t *testing.T, m *Manager, id, script string) string {
	t.Helper()
	args := []string{}
	for kind, flag := range map[string]string{"user": "--user=", "net": "--net=", "ipc": "--ipc=", "uts": "--uts="} {
		if _, err := os.Stat(m.pin(id, kind)); err == nil {
			args = append(args, flag+m.pin(id, kind))
		}
	}
	out, err := exec.Command("nsenter", append(args, "sh", "-c", script)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
	return strings.TrimSpace(string(out))
}

// nsOf identifies a pinned namespace.
func nsOf(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

func status(t *testing.T, pid int, field string) string {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.Join(strings.Fields(v), " ")
		}
	}
	return ""
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 6000 {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("never: %s", what)
}
