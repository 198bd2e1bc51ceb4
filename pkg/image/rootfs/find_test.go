package rootfs

import (
	"errors"
	"io/fs"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFind(t *testing.T) {
	dirs := build(t, "d/f=1 gone=1 l->d out->../../../etc/passwd loop->loop", "-gone p| e/")
	for path, want := range map[string]bool{"/": true, "": true, "/d": true, "/d/f": false, "/l": true, "/l/f": false, "/e": true, "d/../..": true} {
		if dir, err := Find(dirs, path); err != nil || dir != want {
			t.Errorf("%q: %v, %v", path, dir, err)
		}
	}
	for _, path := range []string{"/gone", "/none", "/p", "/out", "/d/f/x"} {
		if _, err := Find(dirs, path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v", path, err)
		}
	}
	if _, err := Find(dirs, "/loop"); !errors.Is(err, unix.ELOOP) {
		t.Error(err)
	}
	if _, err := Find([]string{"/nowhere"}, "/"); err == nil {
		t.Error("layers that are not there")
	}
}
