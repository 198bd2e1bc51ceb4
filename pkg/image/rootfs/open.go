package rootfs

import (
	"fmt"
	"io"
	"io/fs"
	"slices"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symbolic links one path may lead through, as in the kernel (path_resolution(7)).
const maxLinks = 40

// Open opens a regular file of the layer directories, lowest first, as a process would that has them as its root: a
// symbolic link is followed, but never out. The error matches fs.ErrNotExist where there is no file of that path, and
// where it is anything but a regular file; unix.ELOOP where more than 40 links are met.
func Open(layerDirs []string, path string) (io.ReadCloser, error) {
	s, err := OpenStack(layerDirs)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	node, err := s.Resolve(path)
	if err != nil {
		return nil, err
	}
	if node.Type() != unix.S_IFREG {
		return nil, notRegular(path, node.Stat.Mode)
	}
	return s.Open(node)
}

// Resolve follows a path from the root, links included. ".." at the root stays there.
func (s *Stack) Resolve(path string) (Node, error) {
	if len(path) >= unix.PathMax {
		return Node{}, &fs.PathError{Op: "look up", Path: path[:64] + "…", Err: unix.ENAMETOOLONG}
	}
	todo := split(path)
	slices.Reverse(todo)
	trail := []Node{{Dir: s.Root(), Stat: unix.Stat_t{Mode: unix.S_IFDIR}}}
	for links := 0; len(todo) > 0; {
		name := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		here := trail[len(trail)-1]
		if here.Type() != unix.S_IFDIR {
			return Node{}, missing(path)
		}
		if name == ".." {
			trail = trail[:max(1, len(trail)-1)]
			continue
		}
		node, err := s.Lookup(here.Dir, name)
		if err != nil {
			return Node{}, err
		}
		if node.Type() != unix.S_IFLNK {
			trail = append(trail, node)
			continue
		}
		if links++; links > maxLinks {
			return Node{}, &fs.PathError{Op: "look up", Path: path, Err: unix.ELOOP}
		}
		target, err := s.Readlink(node)
		if err != nil {
			return Node{}, err
		}
		if target == "" {
			return Node{}, missing(path)
		}
		if target[0] == '/' {
			trail = trail[:1]
		}
		more := split(target)
		slices.Reverse(more)
		if todo = append(todo, more...); len(todo) > unix.PathMax {
			return Node{}, fmt.Errorf("%q in the image leads through too long links: %w", path, unix.ENAMETOOLONG)
		}
	}
	return trail[len(trail)-1], nil
}
