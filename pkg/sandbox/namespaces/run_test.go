package namespaces

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func layout(t *testing.T) spec.Layout {
	base := t.TempDir()
	l := spec.Layout{Run: filepath.Join(base, "deep/er/run"), Netns: filepath.Join(base, "run/netns")}
	t.Cleanup(func() { unmount(l.Netns); ReleaseRun(l); unmount(base) })
	return l
}

func propagation(t *testing.T, path string) string {
	t.Helper()
	m, err := mountOf(path)
	if err != nil {
		t.Fatal(err)
	}
	if m.Mountpoint != path {
		return "none of its own"
	}
	kind, _, _ := strings.Cut(m.Optional, ":")
	return kind
}

func TestPrepareRun(t *testing.T) {
	for name, root := range map[string]uintptr{"private": unix.MS_PRIVATE, "shared": unix.MS_SHARED} {
		t.Run(name, func(t *testing.T) {
			l := layout(t)
			base := filepath.Dir(filepath.Dir(l.Netns))
			if err := unix.Mount(base, base, "", unix.MS_BIND, ""); err != nil {
				t.Fatal(err)
			}
			if err := unix.Mount("", base, "", root, ""); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				if err := PrepareRun(l); err != nil {
					t.Fatal(err)
				}
			}
			if got := propagation(t, l.Run); got != "" {
				t.Errorf("the run directory's mount is %q, want private", got)
			}
			m, err := mountOf(l.Netns)
			if err != nil || !strings.Contains(m.Optional, "shared:") {
				t.Errorf("netns directory on %+v, %v, want shared", m, err)
			}
			if root == unix.MS_SHARED && m.Mountpoint == l.Netns {
				t.Error("a second bind on a shared directory")
			}
			got := mountsBelow(t, base+"/")
			if n := len(slices.DeleteFunc(got, func(p string) bool { return p != l.Run })); n != 1 {
				t.Errorf("the run directory is mounted %d times", n)
			}
			for _, d := range []string{"", "ns", "shims", "shm", "rootfs"} {
				st, err := os.Stat(filepath.Join(l.Run, d))
				if err != nil || st.Mode().Perm() != 0o700 {
					t.Errorf("%q: %v, %v", d, st, err)
				}
			}
			if st, err := os.Stat(filepath.Dir(l.Run)); err != nil || st.Mode().Perm()&0o001 == 0 {
				t.Errorf("the directory above is %v, %v: a pod's root cannot search it", st.Mode(), err)
			}
		})
	}
}

func TestPrepareRunTakesAnExistingMount(t *testing.T) {
	l := layout(t)
	if err := os.MkdirAll(l.Run, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", l.Run, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", l.Run, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	if err := PrepareRun(l); err != nil {
		t.Fatal(err)
	}
	if got := propagation(t, l.Run); got != "" {
		t.Errorf("%q, want private", got)
	}
	if m, _ := mountOf(l.Run); m.FSType != "tmpfs" {
		t.Errorf("it was covered by %s", m.FSType)
	}
}

func TestPrepareRunRefuses(t *testing.T) {
	l := layout(t)
	elsewhere := t.TempDir()
	os.MkdirAll(filepath.Dir(l.Run), 0o755)
	if err := os.Symlink(elsewhere, l.Run); err != nil {
		t.Fatal(err)
	}
	if err := PrepareRun(l); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("a link: %v, want FailedPrecondition", err)
	}
	os.Remove(l.Run)
	os.Mkdir(l.Run, 0o700)
	os.Chown(l.Run, 1234, 0)
	if err := PrepareRun(l); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("another user's: %v, want FailedPrecondition", err)
	}
}

// TestNetnsPinIsSeenAndReleasedElsewhere: a mount namespace that was cloned before or after sees the pin, and does not
// hold it once it is removed.
func TestNetnsPinIsSeenAndReleasedElsewhere(t *testing.T) {
	m := newManager(t)
	other := sleeper(t, unix.CLONE_NEWNS)
	create(t, m, request())
	younger := sleeper(t, unix.CLONE_NEWNS)
	seen := func(pid string) bool {
		b, err := os.ReadFile("/proc/" + pid + "/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(b), m.o.Layout.NetnsPin(sid))
	}
	if !seen(other) || !seen(younger) {
		t.Errorf("seen by the older %v, by the younger %v", seen(other), seen(younger))
	}
	if err := m.Remove(t.Context(), sid); err != nil {
		t.Fatal(err)
	}
	if seen(other) || seen(younger) {
		t.Errorf("still held by the older %v, by the younger %v", seen(other), seen(younger))
	}
}

func TestTwoDaemonsSideBySide(t *testing.T) {
	a, b := newManager(t), newManager(t)
	create(t, a, request())
	create(t, b, request()) // the same id: other directories
	if err := a.Remove(t.Context(), sid); err != nil {
		t.Fatal(err)
	}
	if got := inside(t, b, sid, "hostname"); got != "pod-1.example" {
		t.Errorf("the other daemon's pod: %q", got)
	}
}
