package untar

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/image/rootfs"
)

// maxOpaque bounds the memory of tree.opaque, and maxCopied that of tree.copied.
const (
	maxOpaque = 100_000
	maxCopied = 100_000
)

// whiteout removes a name from the merged tree.
func (t *tree) whiteout(at *dir, name string) error {
	full := join(at.path, name)
	t.changed(full)
	st, err := statAt(at.fd, name)
	if err == nil && rootfs.IsWhiteout(st.Mode, uint64(st.Rdev)) {
		return nil
	}
	if err == nil {
		err = t.remove(at, name)
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return kernel("remove", full, err)
	}
	_, err = t.lower.Lookup(at.lower, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = unix.Mknodat(at.fd, name, unix.S_IFCHR, 0)
	}
	if err != nil {
		return kernel("white out", full, err)
	}
	return t.count(1, 0)
}

// hideBelow makes a directory opaque: of it, only what the target has is left in the merged tree.
func (t *tree) hideBelow(d *dir) error {
	if d.lower.Empty() {
		return nil
	}
	if len(t.opaque) >= maxOpaque {
		return tooMuchf("there are more than %d opaque directories", maxOpaque)
	}
	t.opaque[d.ino] = d.path
	d.lower = rootfs.Dir{}
	t.forget()
	prefix := d.path + "/"
	var copies []string
	for name := range t.copied {
		if d.path == "" || strings.HasPrefix(name, prefix) {
			copies = append(copies, name)
		}
	}
	// What is in a directory before the directory.
	slices.SortFunc(copies, func(a, b string) int { return strings.Compare(b, a) })
	for _, name := range copies {
		ino := t.copied[name]
		delete(t.copied, name)
		if err := t.removeCopy(name, ino); err != nil {
			return err
		}
	}
	return nil
}

// removeCopy removes a copied file or directory, unless something else has its name by now, or is in it.
func (t *tree) removeCopy(name string, ino uint64) error {
	at, base, err := t.parent(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(at)
	st, err := statAt(at, base)
	if err != nil || st.Ino != ino {
		return nil
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return kernel("remove", name, unix.Unlinkat(at, base, 0))
	}
	err = unix.Unlinkat(at, base, unix.AT_REMOVEDIR)
	if err == nil {
		delete(t.opaque, ino)
	}
	if err == unix.ENOTEMPTY {
		return nil
	}
	return kernel("remove", name, err)
}

// parent opens the directory of a path without links in the target.
func (t *tree) parent(name string) (int, string, error) {
	dirname, base := "", name
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		dirname, base = name[:i], name[i+1:]
	}
	fd, err := t.at(dirname)
	return fd, base, err
}

// at opens a directory of the target by its path without links. The error matches fs.ErrNotExist where it is none.
func (t *tree) at(name string) (int, error) {
	if name == "" {
		name = "."
	}
	fd, err := unix.Openat2(t.root.fd, name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return -1, notFound(name)
	}
	return fd, kernel("open", name, err)
}

// remove removes what the target has at a name, with all below it. ENOENT is returned as it is.
func (t *tree) remove(at *dir, name string) error {
	err := t.removeAt(at.fd, name)
	if errors.Is(err, unix.ENOENT) {
		return unix.ENOENT
	}
	return kernel("remove", join(at.path, name), err)
}

// removeAt recurses no deeper than Limits.Depth: nothing deeper was made.
func (t *tree) removeAt(fd int, name string) error {
	err := unix.Unlinkat(fd, name, 0)
	if err != unix.EISDIR {
		return err
	}
	child, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(child), name)
	defer f.Close()
	if len(t.opaque) > 0 {
		var st unix.Stat_t
		if err := unix.Fstat(child, &st); err != nil {
			return err
		}
		delete(t.opaque, st.Ino)
	}
	for {
		names, _ := f.Readdirnames(512)
		for _, n := range names {
			if err := t.removeAt(child, n); err != nil {
				return err
			}
		}
		if len(names) > 0 {
			continue
		}
		err := unix.Unlinkat(fd, name, unix.AT_REMOVEDIR)
		if err != unix.ENOTEMPTY {
			return err
		}
		// Names that a file system moved while they were removed come up from the start.
		if _, err := f.Seek(0, 0); err != nil {
			return err
		}
	}
}

// hide writes the whiteouts of all opaque directories, once, when nothing is added any more.
func (t *tree) hide() error {
	t.forget()
	t.rest()
	for ino, name := range t.opaque {
		fd, err := t.at(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = t.hideAt(fd, ino, name)
			unix.Close(fd)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *tree) hideAt(fd int, ino uint64, name string) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Ino != ino {
		return kernel("stat", name, err)
	}
	below, err := t.below(name)
	if err != nil {
		return err
	}
	return t.hideNames(fd, below)
}

// below is a directory of the merged lower layers, by its path in the target.
func (t *tree) below(name string) (rootfs.Dir, error) {
	d := t.lower.Root()
	for rest := name; rest != ""; {
		var first string
		first, rest, _ = strings.Cut(rest, "/")
		node, err := t.lower.Lookup(d, first)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return rootfs.Dir{}, kernel("look up", name, err)
		}
		d = node.Dir
	}
	return d, nil
}

// hideNames whites out what only the lower layers have in a directory, and in directories that both have.
func (t *tree) hideNames(fd int, below rootfs.Dir) error {
	return t.lower.Names(below, func(n rootfs.Node, name string) error {
		err := unix.Mknodat(fd, name, unix.S_IFCHR, 0)
		switch {
		case err == nil:
			return t.count(1, 0)
		case err != unix.EEXIST:
			return kernel("white out", n.Path, err)
		case n.Dir.Empty():
			return nil
		}
		child, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil { // not a directory: it hides the lower one by itself
			return nil
		}
		defer unix.Close(child)
		var st unix.Stat_t
		if err := unix.Fstat(child, &st); err != nil {
			return kernel("stat", n.Path, err)
		}
		if _, own := t.opaque[st.Ino]; own {
			return nil
		}
		return t.hideNames(child, n.Dir)
	})
}
