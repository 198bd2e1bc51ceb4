package hostpath

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestResolve(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err,
		os.MkdirAll(dir+"/vol/sub", 0o755), os.WriteFile(dir+"/file", nil, 0o600), unix.Mkfifo(dir+"/fifo", 0o600),
		os.Symlink("vol", dir+"/link"), os.Symlink(dir+"/link/sub", dir+"/chain"), os.Symlink("loop2", dir+"/loop1"),
		os.Symlink("loop1", dir+"/loop2"), os.Symlink("nowhere", dir+"/dangling"), os.MkdirAll(dir+"/own/deep", 0o700),
		os.Symlink("own/deep", dir+"/innocent"), os.WriteFile(dir+"/sock", nil, 0o600), os.Link(dir+"/sock", dir+"/alias"))
	r := Resolver{Forbidden: []string{dir + "/own", dir + "/sock", dir + "/gone"}}
	for _, c := range []struct {
		name, path, want string
		kind             error
	}{
		{"directory", dir + "/vol", dir + "/vol", nil},
		{"unclean", dir + "//vol/../vol/", dir + "/vol", nil},
		{"file", dir + "/file", dir + "/file", nil},
		{"a FIFO is not opened for reading", dir + "/fifo", dir + "/fifo", nil},
		{"device", "/dev/null", "/dev/null", nil},
		{"link", dir + "/link", dir + "/vol", nil},
		{"link in the middle", dir + "/link/sub", dir + "/vol/sub", nil},
		{"link to a link", dir + "/chain", dir + "/vol/sub", nil},
		{"the root", "/", "/", nil},
		{"above the runtime's own", dir, dir, nil},
		{"loop", dir + "/loop1", "", errdefs.ErrInvalidArgument},
		{"dangling link", dir + "/dangling", "", errdefs.ErrNotFound},
		{"missing", dir + "/missing", "", errdefs.ErrNotFound},
		{"below a file", dir + "/file/x", "", errdefs.ErrNotFound},
		{"relative", "vol", "", errdefs.ErrInvalidArgument},
		{"empty", "", "", errdefs.ErrInvalidArgument},
		{"NUL", dir + "/vol\x00x", "", errdefs.ErrInvalidArgument},
		{"too long", "/" + strings.Repeat("a/", 3000), "", errdefs.ErrInvalidArgument},
		{"a component too long", "/" + strings.Repeat("a", 300), "", errdefs.ErrInvalidArgument},
		{"the runtime's own", dir + "/own", "", errdefs.ErrInvalidArgument},
		{"below it", dir + "/own/deep", "", errdefs.ErrInvalidArgument},
		{"by a link", dir + "/innocent", "", errdefs.ErrInvalidArgument},
		{"its socket", dir + "/sock", "", errdefs.ErrInvalidArgument},
		{"its socket by another name", dir + "/alias", "", errdefs.ErrInvalidArgument},
		{"magic link to it", "/proc/self/fd/999999", "", errdefs.ErrNotFound},
	} {
		got, err := r.Resolve(c.path)
		if got != c.want || (c.kind == nil) != (err == nil) || c.kind != nil && !errors.Is(err, c.kind) {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
	}
}

func TestResolveNamesThePath(t *testing.T) {
	_, err := Resolver{}.Resolve("/no/such\nplace")
	if err == nil || !strings.Contains(err.Error(), `"/no/such\nplace"`) {
		t.Error(err)
	}
}

// TestCheckPropagation runs again as a child in a mount namespace of its own: what it mounts is seen by nobody else.
func TestCheckPropagation(t *testing.T) {
	dir := os.Getenv("RUNTIMED_TEST_MOUNTS")
	if dir == "" {
		c := exec.Command("/proc/self/exe", "-test.run=^TestCheckPropagation$", "-test.v")
		c.Env = append(os.Environ(), "RUNTIMED_TEST_MOUNTS="+t.TempDir())
		c.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	at := func(name string, flags ...uintptr) string {
		p := filepath.Join(dir, name)
		must(t, os.Mkdir(p, 0o755), unix.Mount("t", p, "tmpfs", 0, ""))
		for _, f := range flags {
			must(t, unix.Mount("", p, "", f, ""))
		}
		must(t, os.Mkdir(p+"/sub", 0o755))
		return p + "/sub"
	}
	shared := at("shared", unix.MS_SHARED)
	// A slave keeps its master only while that has another member.
	slave := filepath.Join(dir, "slave")
	must(t, os.Mkdir(slave, 0o755), unix.Mount(filepath.Dir(shared), slave, "", unix.MS_BIND, ""), unix.Mount("", slave, "", unix.MS_SLAVE, ""))
	private := at("private", unix.MS_PRIVATE)
	for _, c := range []struct {
		path string
		p    spec.Propagation
		ok   bool
	}{
		{private, "", true},
		{private, spec.PropagationPrivate, true},
		{private, spec.PropagationHostToContainer, false},
		{private, spec.PropagationBidirectional, false},
		{shared, spec.PropagationPrivate, true},
		{shared, spec.PropagationHostToContainer, true},
		{shared, spec.PropagationBidirectional, true},
		{slave, spec.PropagationHostToContainer, true},
		{slave + "/sub", spec.PropagationHostToContainer, true},
		{slave, spec.PropagationBidirectional, false},
	} {
		err := CheckPropagation(c.path, c.p)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, errdefs.ErrFailedPrecondition) {
			t.Errorf("%s %s: %v", c.path, c.p, err)
		}
	}
	over := at("shared-below-private", unix.MS_SHARED)
	must(t, unix.Mount("t", filepath.Dir(over), "tmpfs", 0, ""), unix.Mount("", filepath.Dir(over), "", unix.MS_PRIVATE, ""))
	if err := CheckPropagation(filepath.Dir(over), spec.PropagationBidirectional); err == nil {
		t.Error("of two mounts at one place the upper one counts")
	}
}

func FuzzResolve(f *testing.F) {
	f.Add("/etc/../proc/self/cwd")
	f.Add("//")
	f.Fuzz(func(t *testing.T, p string) {
		r := Resolver{Forbidden: []string{"/etc", "/proc"}}
		got, err := r.Resolve(p)
		if err == nil && (!filepath.IsAbs(got) || within(got, "/etc") || within(got, "/proc")) {
			t.Errorf("%q became %q", p, got)
		}
	})
}
