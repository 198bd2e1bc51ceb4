package namespaces

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"

	"github.com/containerd/errdefs"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// CanIDMap tries an idmapped, recursive bind mount of hostPath with the sandbox's user namespace, attaches it nowhere
// and lets it go. The error is FailedPrecondition and names the path, or the mount below it that cannot be mapped, its
// file system and the reason.
func (m *Manager) CanIDMap(sandboxID, hostPath string) error {
	if err := checkID(sandboxID); err != nil {
		return err
	}
	pin := m.o.Layout.Pin(sandboxID, "user")
	userns, err := openPin(pin)
	if err != nil {
		return spec.Preconditionf("user namespace of the pod: %w", err)
	}
	defer userns.Close()
	return canIDMap(userns, hostPath)
}

// ProbeIDMap tells whether the directory's file system takes idmapped mounts on this node. It makes a user namespace for
// the moment of the question.
func (m *Manager) ProbeIDMap(dir string) error {
	ids := []spec.IDMapping{{HostID: 1 << 30, Size: 1 << 16}}
	h := &holder{}
	defer h.stop()
	err := m.startHolder(context.Background(), h, spec.NamespaceRequest{User: true, UIDs: ids, GIDs: ids})
	if err != nil {
		return spec.Errorf(errdefs.ErrFailedPrecondition, "user namespaces: %w", err)
	}
	userns, err := os.Open("/proc/" + strconv.Itoa(h.pid) + "/ns/user")
	if err != nil {
		return spec.Errorf(errdefs.ErrInternal, "user namespace: %w", err)
	}
	defer userns.Close()
	return canIDMap(userns, dir)
}

func canIDMap(userns *os.File, path string) error {
	err := tryIDMap(userns, path, unix.AT_RECURSIVE)
	if err == nil {
		return nil
	}
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EPERM) {
		return spec.Preconditionf("idmapped mount of %q: %w", path, err)
	}
	culprit, fstype := path, "unknown"
	if m, err := mountOf(path); err == nil {
		fstype = m.FSType
	}
	// With submounts the kernel does not say which one it refused.
	if tryIDMap(userns, path, 0) == nil {
		if sub := submount(userns, path); sub != nil {
			culprit, fstype = sub.Mountpoint, sub.FSType
		}
	}
	return spec.Preconditionf("idmapped mount of %q: file system %s at %q cannot be mapped into the pod's user namespace: %w",
		path, fstype, culprit, err)
}

func submount(userns *os.File, path string) *mountinfo.Info {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil
	}
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(real))
	if err != nil {
		return nil
	}
	for _, m := range mounts {
		if m.Mountpoint != real && tryIDMap(userns, m.Mountpoint, 0) != nil {
			top, _ := mountOf(m.Mountpoint) // others may lie beneath it
			return top
		}
	}
	return nil
}

func tryIDMap(userns *os.File, path string, recursive uint) error {
	tree, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|recursive)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	return unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|recursive,
		&unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(userns.Fd())})
}

// openPin opens a pin, and only a pin: an unmounted, half-made one is a plain file.
func openPin(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil || st.Type != unix.NSFS_MAGIC {
		f.Close()
		return nil, errors.New(path + " is not a namespace: its mount is gone")
	}
	return f, nil
}
