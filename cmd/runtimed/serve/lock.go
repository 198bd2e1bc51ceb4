package serve

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// lockFile is in the root and in the run directory. It holds the pid of the daemon that has the lock.
const lockFile = "lock"

// handover is how long a lock may outlive its dead holder: a child that was being started has the descriptor until its
// execve.
const handover = 2 * time.Second

// lock takes the lock of a directory (flock(2): it ends with the process, however that ends). Where another daemon has
// it, the error is errdefs.ErrAlreadyExists and names its pid.
func lock(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := take(f, dir); err != nil {
		f.Close()
		return nil, err
	}
	err = errors.Join(f.Truncate(0), writeAt(f, fmt.Sprintf("%d\n", os.Getpid())))
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func writeAt(f *os.File, s string) error {
	_, err := f.WriteAt([]byte(s), 0)
	return err
}

func take(f *os.File, dir string) error {
	for end := time.Now().Add(handover); ; time.Sleep(20 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return &os.PathError{Op: "lock", Path: f.Name(), Err: err}
		}
		pid := holder(f)
		if (pid == 0 || unix.Kill(pid, 0) == unix.ESRCH) && time.Now().Before(end) {
			continue
		}
		return held(dir, pid)
	}
}

// held says who has the lock.
func held(dir string, pid int) error {
	if pid == 0 {
		return spec.Errorf(errdefs.ErrAlreadyExists,
			"%s is held by another daemon, which has not said its pid: stop it, or give this one directories of its own", dir)
	}
	return spec.Errorf(errdefs.ErrAlreadyExists,
		"%s is held by the daemon with pid %d: stop that one, or give this one root and run directories of its own", dir, pid)
}

// holder reads the pid from a lock file; 0 where there is none.
func holder(f *os.File) int {
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 32))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid < 0 {
		return 0
	}
	return pid
}
