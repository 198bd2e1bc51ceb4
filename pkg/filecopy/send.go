package filecopy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Send writes the file, link or directory at path, which is this side's own user's. Links are not followed, but for those
// on the way to path. What cannot be copied (devices, sockets, pipes, what is gone meanwhile, and the kernel's own file
// systems below path) is left out, and warn told.
func Send(to io.Writer, path string, warn func(string)) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	s := &sender{w: bufio.NewWriterSize(to, 2*maxPiece), warn: warn}
	if _, err := s.w.WriteString(magic); err != nil {
		return err
	}
	switch info.Mode().Type() {
	case 0:
		f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
		if err != nil {
			return err
		}
		err = s.file("", f)
		if err != nil {
			return err
		}
	case fs.ModeSymlink:
		target, err := os.Readlink(path)
		if err != nil {
			return err
		}
		if err := s.link("", info, target); err != nil {
			return err
		}
	case fs.ModeDir:
		root, err := os.OpenRoot(path)
		if err != nil {
			return err
		}
		if err := s.dir(root, path, "", 1); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%s is neither a file, a directory nor a link", path)
	}
	if err := writeHeader(s.w, header{kind: kindEnd}); err != nil {
		return err
	}
	return s.w.Flush()
}

type sender struct {
	w    *bufio.Writer
	warn func(string)
}

// file sends an open file, and closes it.
func (s *sender) file(name string, f *os.File) error {
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() { // it was one just now
		return fmt.Errorf("%s is not a file any more", f.Name())
	}
	if err := writeHeader(s.w, header{kindFile, info.Mode().Perm(), info.ModTime(), name}); err != nil {
		return err
	}
	return writeData(s.w, f)
}

func (s *sender) link(name string, info fs.FileInfo, target string) error {
	if err := writeHeader(s.w, header{kindLink, 0o777, info.ModTime(), name}); err != nil {
		return err
	}
	return writeTarget(s.w, target)
}

// dir sends an open directory, and closes it. Its path is for warnings.
func (s *sender) dir(root *os.Root, path, name string, depth int) error {
	defer root.Close()
	if depth > maxDepth {
		return fmt.Errorf("%s is deeper than %d directories", path, maxDepth)
	}
	f, err := root.Open(".")
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := writeHeader(s.w, header{kindDir, info.Mode().Perm(), info.ModTime(), name}); err != nil {
		return err
	}
	if depth > 1 && kernels(f) {
		s.warn(path + ": a file system of the kernel, left empty")
		return writeHeader(s.w, header{kind: kindUp})
	}
	names, err := f.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := s.entry(root, filepath.Join(path, name), name, depth); err != nil {
			return err
		}
	}
	return writeHeader(s.w, header{kind: kindUp})
}

func (s *sender) entry(root *os.Root, path, name string, depth int) error {
	info, err := root.Lstat(name)
	if err != nil {
		return s.gone(path, err)
	}
	switch info.Mode().Type() {
	case 0:
		f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			return s.gone(path, err)
		}
		return s.file(name, f)
	case fs.ModeSymlink:
		target, err := root.Readlink(name)
		if err != nil {
			return s.gone(path, err)
		}
		return s.link(name, info, target)
	case fs.ModeDir:
		below, err := root.OpenRoot(name)
		if err != nil {
			return s.gone(path, err)
		}
		return s.dir(below, path, name, depth+1)
	}
	s.warn(path + ": neither a file, a directory nor a link, left out")
	return nil
}

func (s *sender) gone(path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		s.warn(path + ": gone meanwhile, left out")
		return nil
	}
	return fmt.Errorf("%s: %w", path, err)
}

// kernels tells whether a directory is of a file system whose files are no data: reading them may never end.
func kernels(f *os.File) bool {
	var st unix.Statfs_t
	if unix.Fstatfs(int(f.Fd()), &st) != nil {
		return false
	}
	switch int64(st.Type) {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.DEVPTS_SUPER_MAGIC,
		unix.SECURITYFS_MAGIC, unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.BPF_FS_MAGIC:
		return true
	}
	return false
}
