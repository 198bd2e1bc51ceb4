package creator

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// maxDepth bounds nested directories: each level holds two descriptors.
const maxDepth = 256

// budget is what a copy may still take.
type budget struct{ entries, bytes int64 }

func (b *budget) take(bytes int64) error {
	b.entries--
	b.bytes -= bytes
	if b.entries < 0 || b.bytes < 0 {
		return fmt.Errorf("more than %d entries or %d bytes to copy into the image's volumes", int64(maxVolumeEntries), int64(maxVolumeBytes))
	}
	return nil
}

// copyTree makes the empty directory dst equal to src: contents, owners, modes, times, extended attributes and hard
// links. No symbolic link is followed, and device nodes are left out: a volume is data.
func copyTree(src, dst *os.File, b *budget) error {
	c := &copier{budget: b, root: dst, links: map[inode]string{}}
	return c.directory(src, dst, "", 0)
}

type inode struct{ dev, ino uint64 }

type copier struct {
	budget *budget
	root   *os.File
	links  map[inode]string // first name of a file with several, relative to root
}

func (c *copier) directory(src, dst *os.File, rel string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%q: directories nested deeper than %d", rel, maxDepth)
	}
	for {
		names, err := src.Readdirnames(1024)
		for _, name := range names {
			if err := c.entry(src, dst, strings.TrimPrefix(rel+"/"+name, "/"), name, depth); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(src.Fd()), &st); err != nil {
		return err
	}
	return attributes(src, dst, &st)
}

func (c *copier) entry(src, dst *os.File, rel, name string, depth int) error {
	from, to := int(src.Fd()), int(dst.Fd())
	var st unix.Stat_t
	if err := unix.Fstatat(from, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "stat", Path: rel, Err: err}
	}
	if err := c.budget.take(st.Size); err != nil {
		return err
	}
	var err error
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		err = c.subdirectory(from, to, rel, name, depth)
	case unix.S_IFREG:
		err = c.file(from, to, rel, name, &st)
	case unix.S_IFLNK:
		err = symlink(from, to, name, &st)
	case unix.S_IFIFO, unix.S_IFSOCK:
		err = special(to, name, &st)
	}
	if err != nil {
		return fmt.Errorf("%q: %w", rel, err)
	}
	return nil
}

func (c *copier) subdirectory(from, to int, rel, name string, depth int) error {
	if err := unix.Mkdirat(to, name, 0o700); err != nil {
		return err
	}
	src, err := openat(from, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := openat(to, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer dst.Close()
	return c.directory(src, dst, rel, depth+1)
}

func (c *copier) file(from, to int, rel, name string, st *unix.Stat_t) error {
	id := inode{dev: st.Dev, ino: st.Ino}
	if st.Nlink > 1 {
		if first, ok := c.links[id]; ok {
			return unix.Linkat(int(c.root.Fd()), first, to, name, 0)
		}
		c.links[id] = rel
	}
	src, err := openat(from, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := openat(to, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer dst.Close()
	if _, err := io.Copy(dst, src); err != nil {
		return err
	}
	return attributes(src, dst, st)
}

func symlink(from, to int, name string, st *unix.Stat_t) error {
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(from, name, target)
	if err != nil {
		return err
	}
	if err := unix.Symlinkat(string(target[:n]), to, name); err != nil {
		return err
	}
	return ownerAndTimes(to, name, st)
}

func special(to int, name string, st *unix.Stat_t) error {
	if err := unix.Mknodat(to, name, st.Mode, 0); err != nil {
		return err
	}
	if err := ownerAndTimes(to, name, st); err != nil {
		return err
	}
	return unix.Fchmodat(to, name, st.Mode&0o7777, 0) // not a symbolic link: this process alone writes here
}

func ownerAndTimes(to int, name string, st *unix.Stat_t) error {
	if err := unix.Fchownat(to, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	return unix.UtimesNanoAt(to, name, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

// attributes come last, in this order: a change of owner drops set-user-id bits and file capabilities.
func attributes(src, dst *os.File, st *unix.Stat_t) error {
	fd := int(dst.Fd())
	if err := unix.Fchown(fd, int(st.Uid), int(st.Gid)); err != nil {
		return os.NewSyscallError("chown", err)
	}
	if err := unix.Fchmod(fd, st.Mode&0o7777); err != nil {
		return os.NewSyscallError("chmod", err)
	}
	if err := copyXattrs(int(src.Fd()), fd); err != nil {
		return err
	}
	times := []unix.Timespec{st.Atim, st.Mtim}
	return os.NewSyscallError("utimes", unix.UtimesNanoAt(fd, "", times, unix.AT_EMPTY_PATH))
}

func copyXattrs(from, to int) error {
	names := make([]byte, 64<<10) // XATTR_LIST_MAX
	n, err := unix.Flistxattr(from, names)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return os.NewSyscallError("listxattr", err)
	}
	for _, name := range strings.FieldsFunc(string(names[:n]), func(r rune) bool { return r == 0 }) {
		if !copied(name) {
			continue
		}
		value := make([]byte, 64<<10) // XATTR_SIZE_MAX
		n, err := unix.Fgetxattr(from, name, value)
		if err == nil {
			err = unix.Fsetxattr(to, name, value[:n], 0)
		}
		if err != nil {
			return fmt.Errorf("extended attribute %q: %w", name, err)
		}
	}
	return nil
}

// copied: trusted.* is overlayfs' own, and a label is given by the one who mounts.
func copied(xattr string) bool {
	return strings.HasPrefix(xattr, "user.") || xattr == "security.capability" || strings.HasPrefix(xattr, "system.posix_acl_")
}

func openat(dir int, name string, flags int, mode uint32) (*os.File, error) {
	fd, err := unix.Openat(dir, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}
