package creator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Directories of the cover, beside those of the run directory that are shown again.
const (
	layersDir = "layers" // the image's layers, idmapped
	mountsDir = "mounts" // sources of bind mounts, by index
)

func (c *creator) inCover(elem ...string) string {
	return filepath.Join(append([]string{c.bundle.Launch.Layout.Run}, elem...)...)
}

// makeMountpoint makes the empty directory at the root file system's path on the host, and keeps its parent open: after
// the cover it can be reached in no other way.
func (c *creator) makeMountpoint(context.Context) error {
	rootfs := c.bundle.Launch.Layout.Rootfs(c.bundle.Launch.ContainerID)
	if err := os.MkdirAll(rootfs, 0o700); err != nil {
		return err
	}
	var err error
	c.mountpoints, err = os.Open(filepath.Dir(rootfs))
	return err
}

func (c *creator) removeMountpoint(context.Context) error {
	if c.mountpoints == nil {
		return nil
	}
	err := unix.Unlinkat(int(c.mountpoints.Fd()), c.bundle.Launch.ContainerID, unix.AT_REMOVEDIR)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// source is a copy of a mount, not attached anywhere yet.
type source struct {
	tree int // descriptor of open_tree(2)
	dir  bool
}

// openSources opens the source of every bind mount once, and takes a copy of the mount at what it opened. What is
// mounted later is this copy, so nobody can exchange a component of the path, or a symbolic link at its end, between
// a check and the mount (CVE-2021-25741). The copy is in the same peer group: propagation works both ways.
func (c *creator) openSources(context.Context) error {
	c.sources = map[int]source{}
	for i, m := range c.config.Mounts {
		if !m.IsBind() || c.imageAt(m.Source) != nil {
			continue
		}
		s, err := openSource(m.Source, m.Flags&unix.MS_REC != 0)
		if err != nil {
			return fmt.Errorf("source of the mount at %q: %w", m.Destination, err)
		}
		c.sources[i] = s
	}
	return nil
}

func openSource(path string, recursive bool) (source, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return source{}, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return source{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	tree, err := cloneTree(fd, recursive)
	if err != nil {
		return source{}, &os.PathError{Op: "open_tree", Path: path, Err: err}
	}
	return source{tree: tree, dir: st.Mode&unix.S_IFMT == unix.S_IFDIR}, nil
}

func cloneTree(fd int, recursive bool) (int, error) {
	flags := uint(unix.AT_EMPTY_PATH | unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	return unix.OpenTree(fd, "", flags)
}

// attach puts a detached mount below the cover and closes it.
func attach(s source, at string) error {
	defer unix.Close(s.tree)
	var err error
	if s.dir {
		err = os.Mkdir(at, 0o711)
	} else {
		err = os.WriteFile(at, nil, 0o600)
	}
	if err != nil {
		return err
	}
	if err := unix.MoveMount(s.tree, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return &os.PathError{Op: "move_mount", Path: at, Err: err}
	}
	return nil
}

// attachSource puts the source of a bind mount below the cover and has the mount take it from there.
func (c *creator) attachSource(i int, s source) error {
	at := c.inCover(mountsDir, strconv.Itoa(i))
	if err := attach(s, at); err != nil {
		return err
	}
	c.config.Mounts[i].Source = at
	return nil
}

// cover hides the run directory, in this mount namespace only, behind a tmpfs that the pod's root may search: on the
// host it stays closed, but every component of the root file system's path must be searchable for libcontainer's init,
// which is the pod's root. The pod's own pins and its /dev/shm are shown again at their paths.
func (c *creator) cover(context.Context) error {
	l := c.bundle.Launch
	run := l.Layout.Run
	if l.UserNamespace != "" {
		if err := searchable(run); err != nil {
			return err
		}
	}
	// A change of this namespace's copy alone; and it fails where the run directory is not a mount, and so the cover
	// would spread to a shared host.
	if err := unix.Mount("", run, "", unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("run directory %q is not a mount of its own (bind it onto itself, private): %w", run, err)
	}
	shown, err := openShown(filepath.Dir(l.Layout.Pin(l.SandboxID, "user")), l.Layout.Shm(l.SandboxID))
	if err != nil {
		return err
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := unix.Mount("runtimed", run, "tmpfs", flags, "mode=0711"); err != nil {
		return &os.PathError{Op: "mount tmpfs", Path: run, Err: err}
	}
	if err := unix.Mount("", run, "", unix.MS_PRIVATE, ""); err != nil {
		return &os.PathError{Op: "make private", Path: run, Err: err}
	}
	for _, d := range []string{l.Layout.Rootfs(l.ContainerID), c.inCover(mountsDir)} {
		if err := os.MkdirAll(d, 0o711); err != nil {
			return err
		}
	}
	for path, s := range shown {
		if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
			return err
		}
		if err := attach(s, path); err != nil {
			return err
		}
	}
	for i, s := range c.sources {
		if err := c.attachSource(i, s); err != nil {
			return err
		}
	}
	return nil
}

// openShown takes copies of the directories that exist, with all that is mounted below them.
func openShown(paths ...string) (map[string]source, error) {
	shown := map[string]source{}
	for _, p := range paths {
		s, err := openSource(p, true)
		if errors.Is(err, unix.ENOENT) {
			continue // a pod of the node's namespaces has no pins, one of the node's IPC no /dev/shm
		}
		if err != nil {
			return nil, err
		}
		shown[p] = s
	}
	return shown, nil
}

// searchable names the first directory above path that not everybody may search.
func searchable(path string) error {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o001 == 0 {
			return fmt.Errorf("directory %q (mode %04o), above the run directory, is closed to the pod's root: "+
				"chmod o+x it, or choose another run directory", dir, info.Mode().Perm())
		}
		if dir == "/" {
			return nil
		}
	}
}
