package creator

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// ownMounts gives the test's thread a mount namespace, which ends with the test.
func ownMounts(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	must(t, unix.Unshare(unix.CLONE_FS|unix.CLONE_NEWNS))
	must(t, unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Both ways to mount give the same root, up to the limit of overlayfs, at a path of any length.
func TestOverlayBothWays(t *testing.T) {
	ownMounts(t)
	for _, n := range []int{1, 2, 60, maxLayers} {
		for name, mount := range map[string]func(*overlay, string) error{"new": (*overlay).mountNew, "old": (*overlay).mountOld} {
			base := filepath.Join(t.TempDir(), strings.Repeat("long/", 60))
			var lowers []string
			for i := range n {
				lower := fmt.Sprintf("%064x", i)
				lowers = append(lowers, lower)
				must(t, os.MkdirAll(filepath.Join(base, "layers", lower), 0o755))
				must(t, os.WriteFile(filepath.Join(base, "layers", lower, "top"), []byte(strconv.Itoa(i)), 0o644))
				must(t, os.WriteFile(filepath.Join(base, "layers", lower, "own"+strconv.Itoa(i)), nil, 0o644))
			}
			for _, d := range []string{"upper", "work", "root"} {
				must(t, os.Mkdir(filepath.Join(base, d), 0o755))
			}
			slices.Reverse(lowers)
			o, err := openOverlay(base+"/layers", base+"/upper", base+"/work")
			must(t, err)
			o.lowers = lowers
			must(t, mount(o, base+"/root"))
			o.close()
			top, err := os.ReadFile(base + "/root/top")
			must(t, err)
			entries, err := os.ReadDir(base + "/root")
			must(t, err)
			if string(top) != strconv.Itoa(n-1) || len(entries) != n+1 {
				t.Errorf("%s, %d layers: %d entries, top of %s", name, n, len(entries), top)
			}
			must(t, os.WriteFile(base+"/root/new", nil, 0o644))
			if _, err := os.Stat(base + "/upper/new"); err != nil {
				t.Error(err)
			}
			must(t, unix.Unmount(base+"/root", 0))
		}
	}
	if wd, err := os.Getwd(); err != nil || wd != "/" {
		t.Errorf("working directory %q, %v", wd, err)
	}
}

func TestOverlaySaysWhatTheKernelSays(t *testing.T) {
	ownMounts(t)
	base := t.TempDir()
	for _, d := range []string{"layers/a", "upper", "work", "root"} {
		must(t, os.MkdirAll(filepath.Join(base, d), 0o755))
	}
	o, err := openOverlay(base+"/layers", base+"/upper", base+"/upper") // the same twice
	must(t, err)
	defer o.close()
	o.lowers = []string{"a"}
	if err := o.mount(base + "/root"); err == nil || !strings.Contains(err.Error(), "overlay of 1 layers") || !errors.Is(err, unix.EINVAL) {
		t.Errorf("got %v", err)
	}
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	must(t, err)
	defer unix.Close(fs)
	if err := complaint(fs, unix.FsconfigSetString(fs, "nonsense", "1")); !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "nknown parameter 'nonsense'") {
		t.Errorf("got %v", err)
	}
	if err := complaint(fs, unix.EIO); err != unix.EIO {
		t.Errorf("with nothing to say: %v", err)
	}
	if _, err := openOverlay(base+"/absent", base+"/upper", base+"/work"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestSearchable(t *testing.T) {
	base := t.TempDir()
	must(t, os.Chmod(filepath.Dir(base), 0o755))
	must(t, os.MkdirAll(base+"/a/b/run", 0o755))
	must(t, os.Chmod(base+"/a/b/run", 0o700)) // covered
	must(t, searchable(base+"/a/b/run"))
	must(t, os.Chmod(base+"/a", 0o750))
	if err := searchable(base + "/a/b/run"); err == nil || !strings.Contains(err.Error(), base+`/a" (mode 0750)`) {
		t.Errorf("got %v", err)
	}
}

// What was opened is what is mounted, whatever becomes of the path.
func TestSourceIsOpenedOnce(t *testing.T) {
	ownMounts(t)
	base := t.TempDir()
	for _, d := range []string{"good", "evil", "cover"} {
		must(t, os.Mkdir(filepath.Join(base, d), 0o755))
		must(t, os.WriteFile(filepath.Join(base, d, "which"), []byte(d), 0o644))
	}
	must(t, os.Symlink("good", base+"/link"))
	s, err := openSource(base+"/link", true)
	must(t, err)
	must(t, os.Remove(base+"/link"))
	must(t, os.Symlink("evil", base+"/link"))
	must(t, attach(s, base+"/cover/0"))
	if b, err := os.ReadFile(base + "/cover/0/which"); err != nil || string(b) != "good" {
		t.Errorf("%q, %v", b, err)
	}
	must(t, unix.Unmount(base+"/cover/0", 0))
	if _, err := openSource(base+"/absent", false); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	must(t, os.Symlink("loop", base+"/loop"))
	if _, err := openSource(base+"/loop", false); !errors.Is(err, unix.ELOOP) {
		t.Errorf("got %v", err)
	}
}
