package hostpath

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// maxPath is PATH_MAX without its NUL.
const maxPath = 4095

// Resolver knows what is nobody's to mount.
type Resolver struct {
	// Forbidden are directories and files that belong to the runtime: whoever writes there is the runtime. They are
	// refused with all that is below them; a directory above one is not.
	Forbidden []string
}

// Resolve returns the path that the kernel finds behind p: symbolic links followed, once, here. What is mounted later
// should be opened without following any (openat2(2), RESOLVE_NO_SYMLINKS): then nobody can exchange a component in
// between and still be mounted (CVE-2021-25741).
//
// InvalidArgument for a path that is none, a loop of links, and the runtime's own directories; NotFound where there is
// nothing; FailedPrecondition for what the kernel cannot reach. All name the path.
func (r Resolver) Resolve(p string) (string, error) {
	if !filepath.IsAbs(p) || strings.IndexByte(p, 0) >= 0 || len(p) > maxPath {
		return "", spec.Invalidf("host path %.64q is not an absolute path", p)
	}
	fd, err := unix.Open(p, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", missing(p, err)
	}
	defer unix.Close(fd)
	real, err := nameOf(fd)
	if err != nil {
		return "", spec.Preconditionf("host path %q: %w", p, err)
	}
	for _, f := range r.Forbidden {
		if within(real, f) || sameFile(fd, f) {
			return "", spec.Invalidf("host path %q is the runtime's own %q, and is not for containers", p, f)
		}
	}
	return real, nil
}

func missing(p string, err error) error {
	switch {
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR):
		return spec.NotFoundf("host path %q is not there: it must exist before it can be mounted", p)
	case errors.Is(err, unix.ELOOP):
		return spec.Invalidf("host path %q is a loop of symbolic links", p)
	case errors.Is(err, unix.ENAMETOOLONG):
		return spec.Invalidf("host path %.64q… has a component that is too long", p)
	}
	return spec.Preconditionf("host path %q: %w", p, err)
}

// nameOf is where the kernel says that an open file is.
func nameOf(fd int) (string, error) {
	buf := make([]byte, maxPath+1)
	n, err := unix.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd), buf)
	if err != nil {
		return "", err
	}
	name := string(buf[:n])
	var here, there unix.Stat_t
	if err := errors.Join(unix.Fstat(fd, &here), unix.Lstat(name, &there)); err != nil {
		return "", err
	}
	if here.Dev != there.Dev || here.Ino != there.Ino {
		return "", errors.New("it was moved while it was looked at")
	}
	return name, nil
}

func within(p, dir string) bool {
	dir = filepath.Clean(dir)
	return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}

// sameFile catches the forbidden under another name, such as a bind mount of it.
func sameFile(fd int, path string) bool {
	var a, b unix.Stat_t
	return unix.Fstat(fd, &a) == nil && unix.Stat(path, &b) == nil && a.Dev == b.Dev && a.Ino == b.Ino
}

// CheckPropagation tells whether a mount at the resolved path can do what is asked: a bidirectional one needs a source
// on a shared mount, one from the host into the container a source on a shared or a slave mount
// (mount_namespaces(7)). FailedPrecondition names the mount point and how to change it.
func CheckPropagation(resolved string, p spec.Propagation) error {
	if p != spec.PropagationBidirectional && p != spec.PropagationHostToContainer {
		return nil
	}
	infos, err := mountinfo.GetMounts(mountinfo.ParentsFilter(resolved))
	if err != nil {
		return spec.Preconditionf("host path %q: its mount cannot be found: %w", resolved, err)
	}
	at := over(infos)
	if at == nil {
		return spec.Preconditionf("host path %q: its mount cannot be found", resolved)
	}
	shared, slave := false, false
	for _, o := range strings.Fields(at.Optional) {
		shared = shared || strings.HasPrefix(o, "shared:")
		slave = slave || strings.HasPrefix(o, "master:")
	}
	if shared || p == spec.PropagationHostToContainer && slave {
		return nil
	}
	return spec.Preconditionf("host path %q: %s propagation needs a shared mount, and that at %q is private: mount --make-shared %s",
		resolved, p, at.Mountpoint, at.Mountpoint)
}

// over is the mount that a path is on: the deepest, and of several at one place the last.
func over(infos []*mountinfo.Info) *mountinfo.Info {
	var at *mountinfo.Info
	for _, i := range infos {
		if at == nil || len(i.Mountpoint) >= len(at.Mountpoint) {
			at = i
		}
	}
	return at
}
