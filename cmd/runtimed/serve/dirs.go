package serve

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// makeDirs makes the two directories that must be this daemon's alone. What is in them is the rooms' to make, after
// the locks.
func makeDirs(l spec.Layout) error {
	return errors.Join(privateDir(l.Root), privateDir(l.Run))
}

// privateDir makes dir with mode 0700, or takes one that is there and belongs to the daemon's user. A pod's root must
// be able to search the directories above.
func privateDir(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || st.Uid != uint32(os.Geteuid()) {
		return spec.Preconditionf("%s is not a directory of the user that runs this (uid %d): move it away, or name another", dir, os.Geteuid())
	}
	if info.Mode().Perm() != 0o700 {
		return os.Chmod(dir, 0o700)
	}
	return nil
}
