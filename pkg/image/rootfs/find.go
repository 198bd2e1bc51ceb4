package rootfs

import (
	"io/fs"

	"golang.org/x/sys/unix"
)

// Find tells whether a path of the layer directories, lowest first, is a directory; otherwise it is a regular file. It is
// resolved as Open does. The error matches fs.ErrNotExist where there is neither.
func Find(layerDirs []string, path string) (dir bool, err error) {
	s, err := OpenStack(layerDirs)
	if err != nil {
		return false, err
	}
	defer s.Close()
	node, err := s.Resolve(path)
	if err != nil {
		return false, err
	}
	switch node.Type() {
	case unix.S_IFDIR:
		return true, nil
	case unix.S_IFREG:
		return false, nil
	}
	return false, &fs.PathError{Op: "look up", Path: path, Err: fs.ErrNotExist}
}
