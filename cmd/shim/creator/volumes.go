package creator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Limits on what is copied into the volumes of one container.
const (
	maxVolumeEntries = 1 << 20
	maxVolumeBytes   = 16 << 30
)

// fillVolumes makes a directory for each of the image's volumes, with a copy of what the image has there, and adds its
// bind mount. The paths are the image author's: they are resolved inside the root file system only.
func (c *creator) fillVolumes(context.Context) error {
	if len(c.bundle.Launch.Volumes) == 0 {
		return nil
	}
	root, err := unix.Open(c.config.Rootfs, unix.O_PATH|unix.O_CLOEXEC|unix.O_DIRECTORY, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: c.config.Rootfs, Err: err}
	}
	defer unix.Close(root)
	if err := os.Mkdir(c.bundle.Path(spec.VolumesDir), 0o700); err != nil {
		return err
	}
	budget := &budget{entries: maxVolumeEntries, bytes: maxVolumeBytes}
	volumes := slices.Clone(c.bundle.Launch.Volumes)
	slices.Sort(volumes) // a volume comes before those below it
	for n, v := range slices.Compact(volumes) {
		if err := c.fillVolume(n, v, root, budget); err != nil {
			return fmt.Errorf("the image's volume %q: %w", v, err)
		}
	}
	return nil
}

func (c *creator) fillVolume(n int, volume string, root int, budget *budget) error {
	if !path.IsAbs(volume) || path.Clean(volume) != volume || volume == "/" || strings.IndexByte(volume, 0) >= 0 {
		return errors.New("not a clean absolute path below /")
	}
	at := c.bundle.Path(spec.VolumesDir + "/" + strconv.Itoa(n))
	if err := os.Mkdir(at, 0o700); err != nil {
		return err
	}
	dst, err := os.Open(at)
	if err != nil {
		return err
	}
	defer dst.Close()
	src, err := openInRoot(root, volume)
	switch {
	case errors.Is(err, unix.ENOENT):
		if err := dst.Chown(c.rootUID, c.rootGID); err != nil {
			return err
		}
		err = dst.Chmod(0o755)
	case errors.Is(err, unix.ENOTDIR):
		return errors.New("a file in the image, not a directory")
	case err == nil:
		err = copyTree(src, dst, budget)
		src.Close()
	}
	if err != nil {
		return err
	}
	return c.mountVolume(at, volume)
}

// openInRoot opens a directory as a process with that root would find it (openat2(2), Linux 5.6).
func openInRoot(root int, name string) (*os.File, error) {
	return inRoot(root, name, unix.O_RDONLY|unix.O_DIRECTORY)
}

// pathInRoot is openInRoot for whatever is there, without opening it (O_PATH).
func pathInRoot(root int, name string) (*os.File, error) { return inRoot(root, name, unix.O_PATH) }

func inRoot(root int, name string, flags uint64) (*os.File, error) {
	how := &unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for {
		fd, err := unix.Openat2(root, name, how)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue // a rename somewhere on the machine while ".." was resolved
		}
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: name, Err: err}
		}
		return os.NewFile(uintptr(fd), name), nil
	}
}

// mountVolume adds the bind mount, before the first mount of the request that lies below the volume.
func (c *creator) mountVolume(from, to string) error {
	s, err := openSource(from, false)
	if err != nil {
		return err
	}
	at := c.inCover(mountsDir, "volume-"+path.Base(from))
	if err := attach(s, at); err != nil {
		return err
	}
	m := &configs.Mount{
		Source: at, Destination: to, Device: "bind", Flags: unix.MS_BIND | unix.MS_REC,
		PropagationFlags: []int{unix.MS_PRIVATE | unix.MS_REC},
	}
	i := slices.IndexFunc(c.config.Mounts, func(o *configs.Mount) bool {
		return strings.HasPrefix(path.Clean("/"+o.Destination), to+"/")
	})
	if i < 0 {
		i = len(c.config.Mounts)
	}
	c.config.Mounts = slices.Insert(c.config.Mounts, i, m)
	return nil
}

func (c *creator) removeVolumes(context.Context) error {
	return os.RemoveAll(c.bundle.Path(spec.VolumesDir))
}
