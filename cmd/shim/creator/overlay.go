package creator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// maxLayers is overlayfs' own limit on lower directories (OVL_MAX_STACK).
const maxLayers = 500

// mapLayers attaches one copy of the layers' common parent, idmapped by the pod's user namespace: one mount for the
// image, however many layers it has.
func (c *creator) mapLayers(context.Context) error {
	l := c.bundle.Launch
	fd, err := unix.Open(l.Layout.Layers(), unix.O_PATH|unix.O_CLOEXEC|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: l.Layout.Layers(), Err: err}
	}
	defer unix.Close(fd)
	tree, err := cloneTree(fd, false)
	if err != nil {
		return &os.PathError{Op: "open_tree", Path: l.Layout.Layers(), Err: err}
	}
	if l.UserNamespace != "" {
		if err := idmap(tree, l.UserNamespace); err != nil {
			unix.Close(tree)
			return fmt.Errorf("idmapped mount of %q: %w", l.Layout.Layers(), err)
		}
	}
	return attach(source{tree: tree, dir: true}, c.inCover(layersDir))
}

func idmap(tree int, userns string) error {
	ns, err := os.Open(userns)
	if err != nil {
		return err
	}
	defer ns.Close()
	err = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH,
		&unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns.Fd())})
	if errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("this kernel cannot idmap the file system: %w", err)
	}
	return err
}

// mountRoot makes the upper directory and mounts the root file system.
func (c *creator) mountRoot(context.Context) error {
	lowers, err := c.lowers(c.bundle.Launch.Layers)
	if err != nil {
		return err
	}
	var top unix.Stat_t
	if err := unix.Stat(c.inCover(layersDir, lowers[0]), &top); err != nil {
		return err
	}
	upper, work := c.bundle.Path(spec.UpperDir), c.bundle.Path(spec.WorkDir)
	// Strictly new: what an earlier container left must not shine through.
	if err := os.Mkdir(upper, 0o700); err != nil {
		return err
	}
	if err := os.Mkdir(work, 0o700); err != nil {
		return err
	}
	if err := os.Chown(upper, c.rootUID, c.rootGID); err != nil {
		return err
	}
	if err := unix.Chmod(upper, top.Mode&0o7777); err != nil {
		return &os.PathError{Op: "chmod", Path: upper, Err: err}
	}
	o, err := openOverlay(c.inCover(layersDir), upper, work)
	if err != nil {
		return err
	}
	defer o.close()
	o.lowers = lowers
	return o.mount(c.config.Rootfs)
}

func (c *creator) removeUpper(context.Context) error {
	return errors.Join(os.RemoveAll(c.bundle.Path(spec.UpperDir)), os.RemoveAll(c.bundle.Path(spec.WorkDir)))
}

// lowers are the layers' directory names, highest first.
func (c *creator) lowers(layers []string) ([]string, error) {
	n := len(layers)
	if n == 0 || n > maxLayers {
		return nil, fmt.Errorf("an image of %d layers: overlayfs takes 1 to %d", n, maxLayers)
	}
	names := make([]string, n)
	for i, chain := range layers {
		name := spec.LayerDir(chain)
		if name == "" || strings.Trim(name, "0123456789abcdef") != "" {
			return nil, fmt.Errorf("layer %q is not a chain id", chain)
		}
		if info, err := os.Lstat(c.inCover(layersDir, name)); err != nil || !info.IsDir() {
			return nil, fmt.Errorf("layer %q of the image is not unpacked here", chain)
		}
		names[n-1-i] = name
	}
	return names, nil
}

// overlay is a mount to be made. Its directories are named through descriptors: the paths stay short, whatever the
// root directory is, and the container's mountinfo does not tell the host's.
type overlay struct {
	layers int
	lowers []string // names below layers, highest first
	// upper and work are of one that is written, bottom of one that is not: an empty directory below all layers, because
	// overlayfs takes no single layer without an upper one. What is not used is -1.
	upper, work, bottom int
}

func openOverlay(layers, upper, work string) (*overlay, error) {
	fds, err := openDirs(layers, upper, work)
	if err != nil {
		return nil, err
	}
	return &overlay{layers: fds[0], upper: fds[1], work: fds[2], bottom: -1}, nil
}

func openReadonly(layers, bottom string) (*overlay, error) {
	fds, err := openDirs(layers, bottom)
	if err != nil {
		return nil, err
	}
	return &overlay{layers: fds[0], upper: -1, work: -1, bottom: fds[1]}, nil
}

func openDirs(paths ...string) (fds []int, err error) {
	for _, path := range paths {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
		if err != nil {
			closeAll(fds)
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

func (o *overlay) close() { closeAll([]int{o.layers, o.upper, o.work, o.bottom}) }

// lowerPaths are the lower directories, highest first.
func (o *overlay) lowerPaths() []string {
	var paths []string
	for _, name := range o.lowers {
		paths = append(paths, fdPath(o.layers, name))
	}
	if o.bottom >= 0 {
		paths = append(paths, fdPath(o.bottom))
	}
	return paths
}

// settings are the options that are not lower directories.
func (o *overlay) settings() [][2]string {
	if o.upper < 0 {
		return options[:]
	}
	return append(options[:len(options):len(options)], [][2]string{
		{"volatile", ""}, {"upperdir", fdPath(o.upper)}, {"workdir", fdPath(o.work)},
	}...)
}

func fdPath(fd int, elem ...string) string {
	return filepath.Join(append([]string{"/proc/self/fd", strconv.Itoa(fd)}, elem...)...)
}

// errOld: the kernel takes lower directories only as one string (before Linux 6.7).
var errOld = errors.New("no lowerdir+")

func (o *overlay) mount(at string) error {
	err := o.mountNew(at)
	if errors.Is(err, errOld) {
		err = o.mountOld(at)
	}
	if err != nil {
		return fmt.Errorf("overlay of %d layers: %w", len(o.lowers), err)
	}
	return nil
}

// options: no redirect, metacopy or index that a layer of an image could have brought along is followed. volatile
// (Linux 5.10): a container's own layer does not outlive a reboot, so nothing of it is ever forced to the disk; without
// it, the end of each container would sync the whole file system below.
var options = [...][2]string{{"redirect_dir", "nofollow"}, {"metacopy", "off"}, {"index", "off"}, {"xino", "off"}}

// mountNew hands over the lower directories one by one, with no limit on their length in all.
func (o *overlay) mountNew(at string) error {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(fs)
	for _, path := range o.lowerPaths() {
		err := unix.FsconfigSetString(fs, "lowerdir+", path)
		if errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("%w: %w", errOld, complaint(fs, err))
		}
		if err != nil {
			return complaint(fs, err)
		}
	}
	for _, s := range o.settings() {
		if s[1] == "" {
			err = unix.FsconfigSetFlag(fs, s[0])
		} else {
			err = unix.FsconfigSetString(fs, s[0], s[1])
		}
		if err != nil {
			return fmt.Errorf("%s=%s: %w", s[0], s[1], complaint(fs, err))
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return complaint(fs, err)
	}
	m, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return complaint(fs, err)
	}
	defer unix.Close(m)
	return os.NewSyscallError("move_mount", unix.MoveMount(m, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH))
}

// complaint adds what the kernel says about a refused configuration (fsopen(2), "e text" lines).
func complaint(fs int, err error) error {
	b := make([]byte, 1024)
	if n, rerr := unix.Read(fs, b); rerr == nil && n > 2 {
		return fmt.Errorf("%w (%s)", err, strings.TrimSpace(string(b[2:n])))
	}
	return err
}

// mountOld fits up to maxLayers names into the one page that mount(2) takes: short symbolic links in a tmpfs, relative
// to the working directory.
func (o *overlay) mountOld(at string) error {
	links := at + ".links" // beside the mount point, in the cover
	if err := os.Mkdir(links, 0o700); err != nil {
		return err
	}
	paths := o.lowerPaths()
	short := make([]string, len(paths))
	for i, path := range paths {
		short[i] = strconv.FormatInt(int64(i), 36)
		if err := os.Symlink(path, filepath.Join(links, short[i])); err != nil {
			return err
		}
	}
	data := "lowerdir=" + strings.Join(short, ":")
	for _, s := range o.settings() {
		data += "," + strings.TrimSuffix(s[0]+"="+s[1], "=")
	}
	if err := os.Chdir(links); err != nil {
		return err
	}
	defer os.Chdir("/")
	return os.NewSyscallError("mount", unix.Mount("overlay", at, "overlay", 0, data))
}
