package untar

import (
	"archive/tar"
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/image/rootfs"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// writer makes what the entries say.
type writer struct {
	*tree
	from io.Reader // the content of the current entry
	buf  []byte
}

// attributes of an entry, checked.
type attributes struct {
	uid, gid int
	mode     uint32 // permission bits (07777)
	times    [2]unix.Timespec
	xattrs   map[string]string
	name     string // for errors
}

// maxID leaves out (uid_t) -1, which means "unchanged" to chown(2).
const maxID = 1<<32 - 2

func attributesOf(h *tar.Header) (attributes, error) {
	a := attributes{uid: h.Uid, gid: h.Gid, mode: uint32(h.Mode) & 0o7777, name: h.Name}
	if h.Uid < 0 || h.Gid < 0 || h.Uid > maxID || h.Gid > maxID {
		return a, badf("owner %d:%d of %s is out of range", h.Uid, h.Gid, short(h.Name))
	}
	accessed := h.AccessTime
	if accessed.Before(h.ModTime) {
		accessed = h.ModTime
	}
	a.times = [2]unix.Timespec{timespec(accessed), timespec(h.ModTime)}
	var err error
	a.xattrs, err = xattrsOf(h)
	return a, err
}

// timespec bounds a time to what a file system keeps, as archive.Apply does: what is out of range is 1970.
func timespec(t time.Time) unix.Timespec {
	if t.Before(time.Unix(0, 0)) || t.After(time.Unix(0, 1<<63-1)) {
		return unix.Timespec{}
	}
	return unix.NsecToTimespec(t.UnixNano())
}

// place makes the file of an entry, instead of what has its name.
func (w *writer) place(at *dir, base string, h *tar.Header) error {
	full := join(at.path, base)
	a, err := attributesOf(h)
	if err != nil {
		return err
	}
	if h.Typeflag == tar.TypeDir {
		return w.placeDir(at, base, a)
	}
	w.changed(full)
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		return w.placeFile(at, base, a, h.Size)
	case tar.TypeSymlink:
		if h.Linkname == "" || strings.ContainsRune(h.Linkname, 0) || len(h.Linkname) >= unix.PathMax {
			return badf("symbolic link %s has the target %s", short(full), short(h.Linkname))
		}
		err := w.create(at, base, func() error { return unix.Symlinkat(h.Linkname, at.fd, base) })
		return w.finish(at, base, a, unix.S_IFLNK, err)
	case tar.TypeLink:
		return w.placeLink(at, base, a, h.Linkname)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return w.placeNode(at, base, a, h)
	}
	return badf("%s is of the unknown type %q", short(full), h.Typeflag)
}

func (w *writer) placeDir(at *dir, base string, a attributes) error {
	d, fresh, err := w.mkdir(at, base)
	if err != nil {
		return err
	}
	if fresh && !d.lower.Empty() {
		// The two are merged: the lower one's extended attributes stay, but for those that the entry names.
		node, err := w.lower.Lookup(at.lower, base)
		if err == nil {
			err = w.copyXattrsFrom(node, d.fd)
		}
		if err != nil {
			return err
		}
	}
	if err := w.finishFD(d.fd, a); err != nil {
		return err
	}
	return w.times.add(d, a.times)
}

// create calls once more after removing what is in the way, and counts the name.
func (w *writer) create(at *dir, base string, call func() error) error {
	err := call()
	if err == unix.EEXIST {
		if err := w.remove(at, base); err != nil && err != unix.ENOENT {
			return err
		}
		err = call()
	}
	if err != nil {
		return kernel("make", join(at.path, base), err)
	}
	return w.count(1, 0)
}

func (w *writer) placeFile(at *dir, base string, a attributes, size int64) error {
	if err := w.count(0, size); err != nil {
		return err
	}
	fd := -1
	err := w.create(at, base, func() (err error) {
		fd, err = unix.Openat(at.fd, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, a.mode)
		return err
	})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := w.content(fd, w.from, size, a.name); err != nil {
		return err
	}
	if err := w.finishFD(fd, a); err != nil {
		return err
	}
	return kernel("set the times of", a.name, futimens(fd, a.times))
}

// content copies exactly size bytes. Blocks of zeroes become holes.
func (w *writer) content(fd int, from io.Reader, size int64, name string) error {
	hole := false
	for left := size; left > 0; {
		n, err := io.ReadFull(from, w.buf[:min(left, int64(len(w.buf)))])
		if err != nil {
			return w.contentError(err, name)
		}
		left -= int64(n)
		if hole = n >= len(zeroes) && isZero(w.buf[:n]); hole {
			_, err = unix.Seek(fd, int64(n), io.SeekCurrent)
		} else {
			err = writeAll(fd, w.buf[:n])
		}
		if err != nil {
			return kernel("write", name, err)
		}
	}
	if hole {
		return kernel("write", name, unix.Ftruncate(fd, size))
	}
	return nil
}

func (w *writer) contentError(err error, name string) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return badf("the archive ends within %s", short(name))
	}
	if spec.KindOf(err) == nil {
		return badf("the content of %s cannot be read: %w", short(name), err)
	}
	return err
}

func writeAll(fd int, p []byte) error {
	for len(p) > 0 {
		n, err := unix.Write(fd, p)
		if err != nil && err != unix.EINTR {
			return err
		}
		p = p[max(n, 0):]
	}
	return nil
}

func (w *writer) placeNode(at *dir, base string, a attributes, h *tar.Header) error {
	kind, dev := uint32(unix.S_IFIFO), uint64(0)
	if h.Typeflag != tar.TypeFifo {
		// The kernel's own bounds (MINORBITS).
		if h.Devmajor < 0 || h.Devmajor >= 1<<12 || h.Devminor < 0 || h.Devminor >= 1<<20 {
			return badf("device %s has the numbers %d:%d", short(h.Name), h.Devmajor, h.Devminor)
		}
		dev = unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
		if kind = unix.S_IFCHR; h.Typeflag == tar.TypeBlock {
			kind = unix.S_IFBLK
		}
	}
	if rootfs.IsWhiteout(kind, dev) {
		return w.tree.whiteout(at, base)
	}
	err := w.create(at, base, func() error { return unix.Mknodat(at.fd, base, kind|a.mode, int(dev)) })
	return w.finish(at, base, a, kind, err)
}

// placeLink makes a hard link. The parents of the target are looked up like those of a name; the target itself, which may
// be a symbolic link, is not followed.
func (w *writer) placeLink(at *dir, base string, a attributes, linkname string) error {
	full := join(at.path, base)
	dirname, target := path.Split(linkname)
	if target == "" || target == "." || target == ".." || strings.ContainsRune(linkname, 0) || len(linkname) > maxPath {
		return badf("hard link %s has the target %s", short(full), short(linkname))
	}
	from, err := w.directory(clean(dirname), false)
	if errors.Is(err, fs.ErrNotExist) {
		return badf("hard link %s: there is no %s", short(full), short(linkname))
	}
	if err != nil {
		return err
	}
	if path := join(from.path, target); path == full || strings.HasPrefix(path, full+"/") {
		return badf("hard link %s: it takes the place of its target %s", short(full), short(linkname))
	}
	kind, err := w.linkTarget(from, target)
	if errors.Is(err, fs.ErrNotExist) || err == nil && kind == unix.S_IFDIR {
		return badf("hard link %s: there is no file %s", short(full), short(linkname))
	}
	if err == nil {
		err = w.create(at, base, func() error { return unix.Linkat(from.fd, target, at.fd, base, 0) })
	}
	if kind != unix.S_IFREG {
		return w.finish(at, base, a, kind, err)
	}
	if err != nil {
		return err
	}
	fd, err := unix.Openat(at.fd, base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return kernel("open", full, err)
	}
	defer unix.Close(fd)
	if err := w.finishFD(fd, a); err != nil {
		return err
	}
	return kernel("set the times of", full, futimens(fd, a.times))
}

// linkTarget sees to it that the target has the file, and returns its type.
func (w *writer) linkTarget(from *dir, name string) (uint32, error) {
	st, err := statAt(from.fd, name)
	if err == nil {
		if rootfs.IsWhiteout(st.Mode, uint64(st.Rdev)) {
			return 0, fs.ErrNotExist
		}
		return st.Mode & unix.S_IFMT, nil
	}
	if !errors.Is(err, unix.ENOENT) {
		return 0, kernel("look up", join(from.path, name), err)
	}
	node, err := w.lower.Lookup(from.lower, name)
	if err != nil || node.Type() == unix.S_IFDIR {
		return node.Type(), err
	}
	return node.Type(), w.copyUp(from, name, node)
}

// finish sets the attributes of what cannot be opened: a link, a device, a FIFO. err is that of its making.
func (w *writer) finish(at *dir, base string, a attributes, kind uint32, err error) error {
	if err != nil {
		return err
	}
	err = unix.Fchownat(at.fd, base, a.uid, a.gid, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil && kind != unix.S_IFLNK {
		// After the owner, whose change clears the set-user-id bit. Nobody else can put a link here.
		err = unix.Fchmodat(at.fd, base, a.mode, 0)
	}
	if err == nil {
		err = unix.UtimesNanoAt(at.fd, base, a.times[:], unix.AT_SYMLINK_NOFOLLOW)
	}
	return kernel("set the attributes of", a.name, err)
}

// finishFD sets all attributes but the times.
func (w *writer) finishFD(fd int, a attributes) error {
	if err := unix.Fchown(fd, a.uid, a.gid); err != nil {
		return kernel("chown", a.name, err)
	}
	for key, value := range a.xattrs {
		if err := unix.Fsetxattr(fd, key, []byte(value), 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
			return kernel("set "+short(key)+" of", a.name, err)
		}
	}
	return kernel("chmod", a.name, unix.Fchmod(fd, a.mode))
}
