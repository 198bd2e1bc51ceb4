package rootfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// confined are the rules of every lookup below a layer.
const confined = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

// Stack is a set of layers, one above the other.
type Stack struct {
	layers []int // descriptors, uppermost first
}

// Dir is a directory as the merged layers show it. The zero Dir is one that no layer has.
type Dir struct {
	Path string // relative to the root, without links, "" for the root itself
	in   []int  // the layers that it is merged from, uppermost first
}

// Empty tells whether no layer has the directory.
func (d Dir) Empty() bool { return len(d.in) == 0 }

// Node is what a name in a merged directory leads to.
type Node struct {
	Path string      // as Dir.Path
	Stat unix.Stat_t // of the uppermost layer that has it
	Dir  Dir         // not empty when it is a directory

	layer int
}

// Type is the file type bits of its mode (unix.S_IFMT).
func (n Node) Type() uint32 { return n.Stat.Mode & unix.S_IFMT }

// OpenStack opens the layer directories, lowest first.
func OpenStack(dirs []string) (*Stack, error) {
	s := &Stack{layers: make([]int, len(dirs))}
	for i := range s.layers {
		s.layers[i] = -1
	}
	for i, dir := range dirs {
		fd, err := retry(func() (int, error) {
			return unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		})
		if err != nil {
			s.Close()
			return nil, &fs.PathError{Op: "open layer", Path: dir, Err: err}
		}
		s.layers[len(dirs)-1-i] = fd
	}
	return s, nil
}

// Close closes the layers.
func (s *Stack) Close() error {
	for _, fd := range s.layers {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	s.layers = nil
	return nil
}

// Root is the merged root. It is merged from all layers, whatever their own attributes say, as in overlayfs.
func (s *Stack) Root() Dir {
	d := Dir{in: make([]int, len(s.layers))}
	for i := range d.in {
		d.in[i] = i
	}
	return d
}

// Lookup finds a name in a merged directory. The name is one component, neither "." nor "..". The error matches
// fs.ErrNotExist where there is none, or where it is whited out.
func (s *Stack) Lookup(d Dir, name string) (Node, error) {
	path := join(d.Path, name)
	node := Node{Path: path}
	for _, i := range d.in {
		st, err := s.stat(i, path)
		switch {
		case errors.Is(err, unix.ENOENT):
			continue
		case err != nil:
			return Node{}, &fs.PathError{Op: "look up", Path: path, Err: err}
		}
		isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
		switch {
		case !isDir && !node.Dir.Empty():
			return node, nil
		case IsWhiteout(st.Mode, uint64(st.Rdev)):
			return Node{}, missing(path)
		case !isDir:
			node.Stat, node.layer = st, i
			return node, nil
		}
		if node.Dir.Empty() {
			node.Stat, node.layer, node.Dir.Path = st, i, path
		}
		node.Dir.in = append(node.Dir.in, i)
		if i != d.in[len(d.in)-1] {
			if opaque, err := s.opaque(i, path); err != nil || opaque {
				return node, err
			}
		}
	}
	if node.Dir.Empty() {
		return Node{}, missing(path)
	}
	return node, nil
}

// Names calls each once for every name in a merged directory, in no order. It stops at the first error and returns it.
func (s *Stack) Names(d Dir, each func(Node, string) error) error {
	for _, i := range d.in {
		if err := s.namesOf(i, d, each); err != nil {
			return err
		}
	}
	return nil
}

// namesOf visits the names whose uppermost layer is i, so that none comes twice.
func (s *Stack) namesOf(i int, d Dir, each func(Node, string) error) error {
	f, err := s.open(i, d.Path, unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		names, err := f.Readdirnames(512)
		if len(names) == 0 {
			if err == io.EOF {
				return nil
			}
			return err
		}
		for _, name := range names {
			node, err := s.Lookup(d, name)
			if errors.Is(err, fs.ErrNotExist) || err == nil && node.layer != i {
				continue
			}
			if err == nil {
				err = each(node, name)
			}
			if err != nil {
				return err
			}
		}
	}
}

// Open opens a regular file or a directory that Lookup found, for reading. What has been replaced since is refused.
func (s *Stack) Open(n Node) (*os.File, error) {
	flags := 0
	switch n.Type() {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		flags = unix.O_DIRECTORY
	default:
		return nil, &fs.PathError{Op: "open", Path: n.Path, Err: errors.New("neither a regular file nor a directory")}
	}
	f, err := s.open(n.layer, n.Path, flags)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Ino != n.Stat.Ino || st.Dev != n.Stat.Dev {
		f.Close()
		return nil, &fs.PathError{Op: "open", Path: n.Path, Err: errors.New("the layer changes while it is read")}
	}
	return f, nil
}

// Readlink returns the target of a symbolic link that Lookup found.
func (s *Stack) Readlink(n Node) (string, error) {
	fd, err := s.at(n.layer, n.Path, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: n.Path, Err: err}
	}
	defer unix.Close(fd)
	buf := make([]byte, unix.PathMax)
	size, err := retry(func() (int, error) { return unix.Readlinkat(fd, "", buf) })
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: n.Path, Err: err}
	}
	return string(buf[:size]), nil
}

// IsWhiteout tells whether a mode and a device number are overlayfs' whiteout.
func IsWhiteout(mode uint32, rdev uint64) bool {
	return mode&unix.S_IFMT == unix.S_IFCHR && rdev == 0
}

func (s *Stack) stat(layer int, path string) (unix.Stat_t, error) {
	var st unix.Stat_t
	fd, err := s.at(layer, path, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return st, err
	}
	defer unix.Close(fd)
	return st, unix.Fstat(fd, &st)
}

func (s *Stack) opaque(layer int, path string) (bool, error) {
	fd, err := s.at(layer, path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return false, &fs.PathError{Op: "look up", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var value [2]byte
	n, err := unix.Fgetxattr(fd, "trusted.overlay.opaque", value[:])
	switch err {
	case nil:
		return n == 1 && value[0] == 'y', nil
	case unix.ENODATA, unix.ENOTSUP, unix.ERANGE:
		return false, nil
	}
	return false, &fs.PathError{Op: "read trusted.overlay.opaque of", Path: path, Err: err}
}

func (s *Stack) open(layer int, path string, flags int) (*os.File, error) {
	// O_NONBLOCK: a FIFO that took the file's place must not hold the caller.
	fd, err := s.at(layer, path, flags|unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

func (s *Stack) at(layer int, path string, flags int) (int, error) {
	if path == "" {
		path = "."
	}
	return retry(func() (int, error) {
		return unix.Openat2(s.layers[layer], path, &unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: confined})
	})
}

func retry(call func() (int, error)) (int, error) {
	for {
		// EAGAIN is openat2's word for a rename that raced with the walk.
		n, err := call()
		if err != unix.EINTR && err != unix.EAGAIN {
			return n, err
		}
	}
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

func missing(path string) error {
	return &fs.PathError{Op: "look up", Path: path, Err: fs.ErrNotExist}
}

// split cuts a path in its components; empty ones and "." are left out.
func split(path string) []string {
	parts := strings.Split(path, "/")
	kept := parts[:0]
	for _, p := range parts {
		if p != "" && p != "." {
			kept = append(kept, p)
		}
	}
	return kept
}

func notRegular(path string, mode uint32) error {
	return fmt.Errorf("%q in the image is no regular file (type %#o): %w", path, mode&unix.S_IFMT, fs.ErrNotExist)
}
