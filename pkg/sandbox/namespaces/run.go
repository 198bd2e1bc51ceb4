package namespaces

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// PrepareRun makes the run directory ready: a private mount of its own, so that nothing that is mounted below it
// spreads, with the directories that other rooms need in it, and the directory of network namespaces on a shared mount,
// as ip-netns(8) has it, so that a pin is seen and released wherever CNI daemons look. It may run any number of times.
// A directory that is a symbolic link, or another user's, is refused.
func PrepareRun(l spec.Layout) error {
	if err := ownDir(l.Run); err != nil {
		return err
	}
	if err := privateMount(l.Run); err != nil {
		return spec.Errorf(errdefs.ErrInternal, "run directory %s: %w", l.Run, err)
	}
	for _, d := range []string{"ns", "shims", "shm", "rootfs"} {
		if err := ownDir(filepath.Join(l.Run, d)); err != nil {
			return err
		}
	}
	if err := sharedNetns(l.Netns); err != nil {
		return spec.Errorf(errdefs.ErrInternal, "directory of network namespaces %s: %w", l.Netns, err)
	}
	return nil
}

// ReleaseRun takes the run directory's own mount away, with all that is still mounted below it. Directories stay.
func ReleaseRun(l spec.Layout) error { return unmount(l.Run) }

func ownDir(dir string) error {
	// A pod's root must be able to search the directories above.
	err := os.MkdirAll(filepath.Dir(dir), 0o755)
	if err == nil {
		err = os.Mkdir(dir, 0o700)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return spec.Errorf(errdefs.ErrInternal, "directory: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return spec.Errorf(errdefs.ErrInternal, "directory %s: %w", dir, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() {
		return spec.Errorf(errdefs.ErrFailedPrecondition,
			"%s must be a directory of uid %d, not a link and not another user's", dir, os.Geteuid())
	}
	if st.Mode&0o777 != 0o700 {
		return os.Chmod(dir, 0o700)
	}
	return nil
}

func privateMount(dir string) error {
	m, err := mountOf(dir)
	if err != nil {
		return err
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	if m.Mountpoint != real {
		if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	} else if m.Optional == "" {
		return nil
	}
	return unix.Mount("", dir, "", unix.MS_PRIVATE, "")
}

// sharedNetns does what iproute2's lib does before it makes a netns, under the same lock, but leaves a directory alone
// that is on a shared mount already: a second bind there would show every pin twice.
func sharedNetns(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	lock, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	m, err := mountOf(dir)
	if err != nil {
		return err
	}
	if strings.Contains(m.Optional, "shared:") {
		return nil
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	if m.Mountpoint != real {
		if err := unix.Mount(dir, dir, "none", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return err
		}
	}
	return unix.Mount("", dir, "none", unix.MS_SHARED|unix.MS_REC, "")
}

// mountOf is the mount that path is on: of all mount points above it the longest, and of those the youngest.
func mountOf(path string) (*mountinfo.Info, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, err
	}
	mounts, err := mountinfo.GetMounts(mountinfo.ParentsFilter(real))
	if err != nil {
		return nil, err
	}
	var best *mountinfo.Info
	for _, m := range mounts {
		above := m.Mountpoint == "/" || real == m.Mountpoint || strings.HasPrefix(real, m.Mountpoint+"/")
		if above && (best == nil || len(m.Mountpoint) >= len(best.Mountpoint)) {
			best = m
		}
	}
	if best == nil {
		return nil, errors.New("it is on no mount of the mount table")
	}
	return best, nil
}

// unmount takes away everything that is mounted on path itself, lazily, so that nobody who uses it can hold it up.
func unmount(path string) error {
	for range 64 {
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return errors.New("there is always one more mount on " + path)
}
