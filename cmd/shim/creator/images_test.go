package creator

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/cmd/shim/bundle"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// imageCreator has a cover with one layer in it, and a secret beside.
func imageCreator(t *testing.T, images ...spec.LaunchImage) *creator {
	t.Helper()
	ownMounts(t)
	run := t.TempDir()
	must(t, unix.Mount("cover", run, "tmpfs", 0, "mode=711"))
	t.Cleanup(func() { unix.Unmount(run, unix.MNT_DETACH) })
	for _, d := range []string{"layers/aa/data", "layers/bb/data", "mounts"} {
		must(t, os.MkdirAll(filepath.Join(run, d), 0o755))
	}
	for name, text := range map[string]string{"layers/aa/data/low": "low", "layers/bb/data/high": "high", "secret": "secret"} {
		must(t, os.WriteFile(filepath.Join(run, name), []byte(text), 0o644))
	}
	for name, to := range map[string]string{"link": "/data", "out": "../../../../secret", "abs": run + "/secret", "magic": "/proc/self/root", "loop": "loop"} {
		must(t, os.Symlink(to, filepath.Join(run, "layers/aa", name)))
	}
	must(t, unix.Mkfifo(filepath.Join(run, "layers/aa/pipe"), 0o644))
	must(t, unix.Mknod(filepath.Join(run, "layers/aa/device"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	return &creator{bundle: &bundle.Bundle{Launch: spec.Launch{Layout: spec.Layout{Run: run}, Images: images}}}
}

func TestMountImages(t *testing.T) {
	both := []string{"sha256:aa", "sha256:bb"}
	c := imageCreator(t,
		spec.LaunchImage{Index: 0, Layers: both},
		spec.LaunchImage{Index: 1, Layers: both[:1], SubPath: "data"},
		spec.LaunchImage{Index: 7, Layers: both, SubPath: "data/high"},
		spec.LaunchImage{Index: 8, Layers: both, SubPath: "link"},
	)
	must(t, c.mountImages(t.Context()))
	layout := c.bundle.Launch.Layout
	for path, want := range map[string]string{
		layout.ImageMount(0) + "/data/low": "low", layout.ImageMount(0) + "/data/high": "high",
		layout.ImageMount(1) + "/low": "low", layout.ImageMount(7): "high", layout.ImageMount(8) + "/high": "high",
	} {
		if b, err := os.ReadFile(path); string(b) != want {
			t.Errorf("%s: %q, %v", path, b, err)
		}
	}
	if _, err := os.Stat(layout.ImageMount(1) + "/high"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a layer that is not the image's: %v", err)
	}
	if err := os.WriteFile(layout.ImageMount(0)+"/new", nil, 0o644); !errors.Is(err, unix.EROFS) {
		t.Errorf("an image can be written: %v", err)
	}
	if c.imageAt(layout.ImageMount(7)) == nil || c.imageAt(layout.ImageMount(2)) != nil || c.imageAt("/data") != nil {
		t.Error("a source is taken for an image's that is none, or the other way round")
	}
}

// What the image's author linked elsewhere is looked for inside the image, and what is no file is not mounted.
func TestHostileImages(t *testing.T) {
	for sub, want := range map[string]string{
		"none": "no file or directory", "data/low/x": "no file or directory", "out": "no file or directory", "abs": "no file or directory",
		"magic/etc": "no file or directory", "loop": "symbolic links", "pipe": "neither", "device": "neither", "../../secret": "no file or directory",
	} {
		t.Run(strings.ReplaceAll(sub, "/", "_"), func(t *testing.T) {
			c := imageCreator(t, spec.LaunchImage{Layers: []string{"sha256:aa"}, SubPath: sub})
			if err := c.mountImages(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v", err)
			}
			if _, err := os.Lstat(c.bundle.Launch.Layout.ImageMount(0)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("something is there: %v", err)
			}
		})
	}
	for name, layers := range map[string][]string{"none": nil, "a path": {"../../etc"}, "one that is not there": {"sha256:cc"}} {
		c := imageCreator(t, spec.LaunchImage{Layers: layers})
		if err := c.mountImages(t.Context()); err == nil {
			t.Errorf("layers that are %s were mounted", name)
		}
	}
}
