package untar

import (
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/image/rootfs"
)

// copyDir gives a new directory the attributes of the one below that it stands for.
func (t *tree) copyDir(d *dir, n rootfs.Node) error {
	if err := t.copyXattrsFrom(n, d.fd); err != nil {
		return err
	}
	if err := t.copyOwner(d.fd, n); err != nil {
		return err
	}
	return t.times.add(d, timesOf(n))
}

func (t *tree) copyOwner(fd int, n rootfs.Node) error {
	if err := unix.Fchown(fd, int(n.Stat.Uid), int(n.Stat.Gid)); err != nil {
		return kernel("chown", n.Path, err)
	}
	return kernel("chmod", n.Path, unix.Fchmod(fd, n.Stat.Mode&0o7777))
}

// copyUp copies a lower layer's file into the target, where a hard link needs it.
func (w *writer) copyUp(at *dir, name string, n rootfs.Node) error {
	if len(w.copied) >= maxCopied {
		return tooMuchf("hard links lead to more than %d files of other layers", maxCopied)
	}
	if err := w.make(at, name, n); err != nil {
		return err
	}
	st, err := statAt(at.fd, name)
	if err != nil {
		return kernel("stat", n.Path, err)
	}
	w.copied[join(at.path, name)] = st.Ino
	return nil
}

func (w *writer) make(at *dir, name string, n rootfs.Node) error {
	a := attributes{
		uid: int(n.Stat.Uid), gid: int(n.Stat.Gid), mode: n.Stat.Mode & 0o7777, times: timesOf(n), name: n.Path,
	}
	switch n.Type() {
	case unix.S_IFREG:
		return w.copyFile(at, name, n)
	case unix.S_IFLNK:
		link, err := w.lower.Readlink(n)
		if err != nil {
			return kernel("read link", n.Path, err)
		}
		err = w.create(at, name, func() error { return unix.Symlinkat(link, at.fd, name) })
		return w.finish(at, name, a, n.Type(), err)
	}
	err := w.create(at, name, func() error { return unix.Mknodat(at.fd, name, n.Type()|a.mode, int(n.Stat.Rdev)) })
	return w.finish(at, name, a, n.Type(), err)
}

func (w *writer) copyFile(at *dir, name string, n rootfs.Node) error {
	if err := w.count(0, n.Stat.Size); err != nil {
		return err
	}
	from, err := w.lower.Open(n)
	if err != nil {
		return kernel("open", n.Path, err)
	}
	defer from.Close()
	fd := -1
	err = w.create(at, name, func() (err error) {
		fd, err = unix.Openat(at.fd, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := w.copyData(fd, from, n); err != nil {
		return err
	}
	if err := w.copyXattrsFrom(n, fd); err != nil {
		return err
	}
	if err := w.copyOwner(fd, n); err != nil {
		return err
	}
	return kernel("set the times of", n.Path, futimens(fd, timesOf(n)))
}

// copyData leaves holes where the source has them.
func (w *writer) copyData(fd int, from *os.File, n rootfs.Node) error {
	src, size := int(from.Fd()), n.Stat.Size
	for at := int64(0); at < size; {
		data, err := unix.Seek(src, at, unix.SEEK_DATA)
		if err == unix.ENXIO {
			break
		}
		end := size
		if err == nil {
			end, err = unix.Seek(src, data, unix.SEEK_HOLE)
		}
		if err == nil {
			_, err = unix.Seek(fd, data, io.SeekStart)
		}
		if err == nil {
			err = w.copyRange(fd, src, data, min(end, size))
		}
		if err != nil {
			return kernel("copy", n.Path, err)
		}
		at = end
	}
	return kernel("copy", n.Path, unix.Ftruncate(fd, size))
}

func (w *writer) copyRange(fd, src int, from, to int64) error {
	for from < to {
		n, err := unix.Pread(src, w.buf[:min(to-from, int64(len(w.buf)))], from)
		if err == nil && n == 0 {
			err = unix.EIO // the layer shrank
		}
		if err == nil {
			err = writeAll(fd, w.buf[:n])
		}
		if err != nil && err != unix.EINTR {
			return err
		}
		from += int64(max(n, 0))
	}
	return nil
}

func timesOf(n rootfs.Node) [2]unix.Timespec { return [2]unix.Timespec{n.Stat.Atim, n.Stat.Mtim} }
