package filecopy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Contents is the name of a directory of which only what is in it is meant.
const Contents = "."

// Receive makes what a stream brings at dest, as cp(1) does: below it, called name, where it is a directory, and else in
// its place. dest and name are this side's own user's; name is one component, or Contents. What is there is replaced; a
// directory is added to. Nothing is made anywhere else, whatever the stream says. A copy that fails stays as far as it
// came.
func Receive(from io.Reader, dest, name string) error {
	if name != Contents && !component(name) {
		return fmt.Errorf("%q is no name for a copy", name)
	}
	r := &receiver{bufio.NewReaderSize(from, 2*maxPiece)}
	start := make([]byte, len(magic))
	if _, err := io.ReadFull(r, start); err != nil {
		return cut(err)
	}
	if string(start) != magic {
		return badStream("it begins with %q", start)
	}
	h, err := readHeader(r.Reader, true)
	if err != nil {
		return err
	}
	root, name, err := place(dest, name, h.kind == kindDir)
	if err != nil {
		return err
	}
	defer root.Close()
	if name == Contents {
		err = r.fill(root, 1)
	} else {
		h.name = name
		err = r.entry(root, h, 1)
	}
	if err != nil {
		return err
	}
	if h, err = readHeader(r.Reader, true); err != nil {
		return err
	}
	if _, err := r.ReadByte(); h.kind != kindEnd || !errors.Is(err, io.EOF) {
		return badStream("there is more than one entry")
	}
	return nil
}

// place opens the directory in which the copy is made, and tells what it is called there; Contents means that the
// directory itself is filled.
func place(dest, name string, dir bool) (*os.Root, string, error) {
	info, err := os.Stat(dest)
	switch {
	case err == nil && info.IsDir():
		if name == Contents && !dir {
			return nil, "", badStream("a directory was asked for")
		}
		root, err := os.OpenRoot(dest)
		return root, name, err
	case err == nil && dir:
		return nil, "", fmt.Errorf("%s is a file: a directory cannot take its place", dest)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, "", err
	case err != nil && !dir && strings.HasSuffix(dest, "/"):
		return nil, "", err
	}
	clean := filepath.Clean(dest)
	root, err := os.OpenRoot(filepath.Dir(clean))
	return root, filepath.Base(clean), err
}

type receiver struct{ *bufio.Reader }

// fill makes the entries of a directory, to its end.
func (r *receiver) fill(root *os.Root, depth int) error {
	if depth > maxDepth {
		return badStream("it is deeper than %d directories", maxDepth)
	}
	for {
		h, err := readHeader(r.Reader, false)
		switch {
		case err != nil:
			return err
		case h.kind == kindUp:
			return nil
		}
		if err := r.entry(root, h, depth); err != nil {
			return err
		}
	}
}

func (r *receiver) entry(root *os.Root, h header, depth int) (err error) {
	fresh := true
	switch h.kind {
	case kindFile:
		err = r.file(root, h)
	case kindLink:
		err = r.link(root, h)
	case kindDir:
		fresh, err = r.dir(root, h, depth)
	default:
		return badStream("%q is in the wrong place", h.kind)
	}
	if err != nil || !fresh {
		return err
	}
	return setTime(root, h)
}

func (r *receiver) file(root *os.Root, h header) error {
	if err := clear(root, h.name); err != nil {
		return err
	}
	f, err := root.OpenFile(h.name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := readData(f, r.Reader); err != nil {
		return err
	}
	if err := f.Chmod(h.mode); err != nil {
		return err
	}
	return f.Close()
}

func (r *receiver) link(root *os.Root, h header) error {
	target, err := readTarget(r.Reader)
	if err != nil {
		return err
	}
	if err := clear(root, h.name); err != nil {
		return err
	}
	return root.Symlink(target, h.name)
}

// dir fills a directory. One that was there keeps its mode and time.
func (r *receiver) dir(root *os.Root, h header, depth int) (fresh bool, err error) {
	err = root.Mkdir(h.name, 0o700)
	fresh = err == nil
	if errors.Is(err, fs.ErrExist) {
		info, err := root.Lstat(h.name)
		if err == nil && !info.IsDir() {
			err = fmt.Errorf("%s is there and is no directory", filepath.Join(root.Name(), h.name))
		}
		if err != nil {
			return false, err
		}
	} else if err != nil {
		return false, err
	}
	below, err := root.OpenRoot(h.name)
	if err != nil {
		return false, err
	}
	defer below.Close()
	if err := r.fill(below, depth+1); err != nil || !fresh {
		return fresh, err
	}
	f, err := below.Open(".")
	if err != nil {
		return false, err
	}
	defer f.Close()
	return true, f.Chmod(h.mode) // last: it may not be one in which files can be made
}

// clear takes what is there out of the way. Directories stay.
func clear(root *os.Root, name string) error {
	info, err := root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.IsDir():
		return fmt.Errorf("%s is a directory: it is not replaced", filepath.Join(root.Name(), name))
	}
	return root.Remove(name)
}

// setTime sets the time of the last change, of a link itself too.
func setTime(root *os.Root, h header) error {
	f, err := root.Open(".")
	if err != nil {
		return err
	}
	defer f.Close()
	at, err := unix.TimeToTimespec(h.mtime)
	if err != nil {
		return badStream("the time of %q", h.name)
	}
	err = unix.UtimesNanoAt(int(f.Fd()), h.name, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return &os.PathError{Op: "utimensat", Path: h.name, Err: err}
	}
	return nil
}
