package files

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

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

const ownMounts = "RUNTIMED_TEST_OWN_MOUNTS"

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

const sid = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func newManager(t *testing.T) *Manager {
	t.Helper()
	base := t.TempDir()
	l := spec.Layout{Root: filepath.Join(base, "root"), Run: filepath.Join(base, "run")}
	node := Node{filepath.Join(base, "resolv.conf"), filepath.Join(base, "upstream"), filepath.Join(base, "hosts")}
	for _, err := range []error{os.MkdirAll(l.Sandbox(sid), 0o700), os.MkdirAll(filepath.Dir(l.Shm(sid)), 0o700),
		os.WriteFile(node.ResolvConf, []byte("nameserver 192.0.2.1\n"), 0o644),
		os.WriteFile(node.Hosts, []byte("192.0.2.5 node\n"), 0o644)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return &Manager{layout: l, node: node}
}

func request() spec.FilesRequest {
	return spec.FilesRequest{SandboxID: sid, RootUID: 0x40000000, RootGID: 0x40000001, Hostname: "pod",
		Addresses: []spec.Address{{IP: "10.0.0.7", Prefix: 24}}}
}

func text(t *testing.T, m *Manager, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(m.layout.Sandbox(sid), name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestCreate(t *testing.T) {
	m := newManager(t)
	for range 2 {
		if err := m.Create(t.Context(), request()); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{ResolvConf: "nameserver 192.0.2.1\n", Hosts: localhost + "10.0.0.7\tpod\n", Hostname: "pod\n"} {
		if got := text(t, m, name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(m.layout.Sandbox(sid), name), &st); err != nil {
			t.Fatal(err)
		}
		if st.Uid != 0x40000000 || st.Gid != 0x40000001 || st.Mode != unix.S_IFREG|0o644 {
			t.Errorf("%s: owner %d:%d, mode %o", name, st.Uid, st.Gid, st.Mode)
		}
	}
	shm(t, m)
	for range 2 {
		if err := m.Remove(t.Context(), sid); err != nil {
			t.Fatal(err)
		}
	}
	empty(t, m, "removed")
}

func shm(t *testing.T, m *Manager) {
	t.Helper()
	path := m.layout.Shm(sid)
	var fs unix.Statfs_t
	var st unix.Stat_t
	if err := errors.Join(unix.Statfs(path, &fs), unix.Stat(path, &st)); err != nil {
		t.Fatal(err)
	}
	const want = unix.ST_NOSUID | unix.ST_NODEV | unix.ST_NOEXEC
	if fs.Type != unix.TMPFS_MAGIC || fs.Flags&want != want || int64(fs.Blocks)*fs.Bsize != ShmSize {
		t.Errorf("file system %#x, flags %#x, %d bytes", fs.Type, fs.Flags, int64(fs.Blocks)*fs.Bsize)
	}
	if st.Uid != 0x40000000 || st.Gid != 0x40000001 || st.Mode != unix.S_IFDIR|0o1777 {
		t.Errorf("owner %d:%d, mode %o", st.Uid, st.Gid, st.Mode)
	}
	b, _ := os.ReadFile("/proc/self/mountinfo")
	if n := strings.Count(string(b), " "+path+" "); n != 1 {
		t.Errorf("mounted %d times", n)
	}
}

func empty(t *testing.T, m *Manager, when string) {
	t.Helper()
	for _, dir := range []string{m.layout.Sandbox(sid), filepath.Dir(m.layout.Shm(sid))} {
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%s: %v is left in %s, %v", when, left, dir, err)
		}
	}
	b, _ := os.ReadFile("/proc/self/mountinfo")
	if strings.Contains(string(b), m.layout.Shm(sid)) {
		t.Errorf("%s: the shm is still mounted", when)
	}
}

func TestOfTheNode(t *testing.T) {
	m := newManager(t)
	r := spec.FilesRequest{SandboxID: sid, HostNetwork: true, HostIPC: true}
	if err := m.Create(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	name, _ := os.Hostname()
	for file, want := range map[string]string{ResolvConf: "nameserver 192.0.2.1\n", Hosts: "192.0.2.5 node\n", Hostname: name + "\n"} {
		if got := text(t, m, file); got != want {
			t.Errorf("%s: %q, want %q", file, got, want)
		}
	}
	if _, err := os.Stat(m.layout.Shm(sid)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a shm for a pod with the node's: %v", err)
	}
	os.Remove(m.node.Hosts)
	os.Remove(m.node.ResolvConf)
	if err := m.Create(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if got := text(t, m, Hosts); got != localhost {
		t.Errorf("hosts of a node without: %q", got)
	}
	os.WriteFile(m.node.Hosts, make([]byte, maxNodeFile+1), 0o644)
	if err := m.Create(t.Context(), r); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("a huge file of the node: %v", err)
	}
}

// TestNoLinkIsFollowed: links in the place of the files, of the temporary ones and of the record directory itself.
func TestNoLinkIsFollowed(t *testing.T) {
	m := newManager(t)
	canary := filepath.Join(t.TempDir(), "canary")
	if err := os.WriteFile(canary, []byte("alive"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{ResolvConf, Hosts, Hostname} {
		for _, n := range []string{name, "." + name} {
			if err := os.Symlink(canary, filepath.Join(m.layout.Sandbox(sid), n)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := m.Create(t.Context(), request()); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(canary); err != nil || string(b) != "alive" {
		t.Errorf("the canary is %q, %v", b, err)
	}
	if got := text(t, m, Hostname); got != "pod\n" {
		t.Errorf("%q", got)
	}
	if err := m.Remove(t.Context(), sid); err != nil {
		t.Fatal(err)
	}
	os.Remove(m.layout.Sandbox(sid))
	if err := os.Symlink(t.TempDir(), m.layout.Sandbox(sid)); err != nil {
		t.Fatal(err)
	}
	if err := m.Create(t.Context(), request()); err == nil {
		t.Error("a link in the place of the record directory was followed")
	}
}

func TestRefusedBeforeAnythingIsMade(t *testing.T) {
	m := newManager(t)
	r := request()
	r.DNS = &spec.DNS{Searches: []string{"a\nb"}}
	if err := m.Create(t.Context(), r); !errdefs.IsInvalidArgument(err) {
		t.Errorf("%v, want InvalidArgument", err)
	}
	empty(t, m, "refused")
	if err := m.Remove(t.Context(), "../x"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("%v, want InvalidArgument", err)
	}
}

// TestEveryStepFails makes every step of Create and of Remove fail once; Remove then takes away whatever is there, and a
// Create over half an attempt works.
func TestEveryStepFails(t *testing.T) {
	m := newManager(t)
	for _, name := range []string{ResolvConf, Hosts, Hostname, "shm"} {
		for _, phase := range []step.Phase{step.Doing, step.Undoing} {
			planted := errors.New("planted")
			bad := m.Observed(func(e step.Event) error {
				if e.Step == name && e.Phase == phase {
					return planted
				}
				return nil
			})
			if err := errors.Join(bad.Create(t.Context(), request()), bad.Remove(t.Context(), sid)); !errors.Is(err, planted) {
				t.Errorf("%s %s: %v", phase, name, err)
			}
			bad.Create(t.Context(), request())
			if err := m.Create(t.Context(), request()); err != nil {
				t.Errorf("create over what %s %s left: %v", phase, name, err)
			}
			shm(t, m)
			if err := m.Remove(t.Context(), sid); err != nil {
				t.Errorf("remove after %s %s: %v", phase, name, err)
			}
			empty(t, m, string(phase)+" "+name)
		}
	}
}

// TestRemoveWhileInUse: an open file and a stacked mount hold nothing up.
func TestRemoveWhileInUse(t *testing.T) {
	m := newManager(t)
	if err := m.Create(t.Context(), request()); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(m.layout.Shm(sid), "x"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Mount("tmpfs", m.layout.Shm(sid), "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	if err := m.Remove(context.Background(), sid); err != nil {
		t.Fatal(err)
	}
	empty(t, m, "in use")
}

// TestRemoveWithoutRecord: recovery knows only the id.
func TestRemoveWithoutRecord(t *testing.T) {
	m := newManager(t)
	if err := m.Create(t.Context(), request()); err != nil {
		t.Fatal(err)
	}
	os.RemoveAll(m.layout.Sandbox(sid))
	if err := m.Remove(t.Context(), sid); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(m.layout.Shm(sid)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the shm is left: %v", err)
	}
}
