package namespaces

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

func TestCanIDMap(t *testing.T) {
	m := newManager(t)
	create(t, m, request())
	dir := t.TempDir()
	sub := filepath.Join(dir, "sub/mount")
	file := filepath.Join(dir, "file")
	for _, err := range []error{os.MkdirAll(sub, 0o755), os.WriteFile(file, nil, 0o644), os.Symlink(dir, dir+"/link")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	check := func(path, says string) {
		t.Helper()
		err := m.CanIDMap(sid, path)
		switch {
		case says == "" && err != nil:
			t.Errorf("%s: %v", path, err)
		case says != "" && (!errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), says) ||
			!strings.Contains(err.Error(), path)):
			t.Errorf("%s: %v, want FailedPrecondition with %q and the path", path, err, says)
		}
	}
	check(dir, "")
	check(file, "")
	check(dir+"/link", "")
	check("/proc/sys", "file system proc")
	check("/sys", "file system sysfs")
	check(dir+"/none", "no such file")

	if err := unix.Mount("tmpfs", sub, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(sub, unix.MNT_DETACH)
	check(dir, "")
	if err := unix.Mount("proc", sub, "proc", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(sub, unix.MNT_DETACH)
	check(dir, "file system proc at \""+sub)

	before := mountsBelow(t, "/")
	check(dir, "file system proc")
	if after := mountsBelow(t, "/"); len(after) != len(before) {
		t.Errorf("a probe left %d mounts", len(after)-len(before))
	}
	if err := m.CanIDMap("none", dir); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("without a namespace: %v", err)
	}
}

func TestHalfMadePinIsNoNamespace(t *testing.T) {
	m := newManager(t)
	create(t, m, request())
	if err := unix.Unmount(m.pin(sid, "user"), unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	if err := m.CanIDMap(sid, t.TempDir()); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("%v, want FailedPrecondition", err)
	}
}

func TestProbeIDMap(t *testing.T) {
	m := newManager(t)
	if err := m.ProbeIDMap(t.TempDir()); err != nil {
		t.Errorf("%v", err)
	}
	if err := m.ProbeIDMap("/proc"); err == nil || !strings.Contains(err.Error(), "proc") {
		t.Errorf("proc: %v", err)
	}
}
