package untar

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// times remembers the times of directories, which can be set only when nothing is made in them any more. They are kept in
// a file without a name, in the target's file system: an archive of nothing but directories must not fill memory.
type times struct {
	file *os.File
	w    *bufio.Writer
}

// record precedes a path.
type record struct {
	Ino    uint64
	Times  [2]unix.Timespec
	Length uint16
}

func newTimes(dir int) (*times, error) {
	fd, err := unix.Openat(dir, ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, kernel("make a temporary file in", "target", err)
	}
	f := os.NewFile(uintptr(fd), "times")
	return &times{file: f, w: bufio.NewWriterSize(f, 32<<10)}, nil
}

func (t *times) close() { t.file.Close() }

// add remembers times for a directory. The last for a directory counts.
func (t *times) add(d *dir, ts [2]unix.Timespec) error {
	err := binary.Write(t.w, binary.NativeEndian, record{Ino: d.ino, Times: ts, Length: uint16(len(d.path))})
	if err == nil {
		_, err = t.w.WriteString(d.path)
	}
	return kernel("write", "temporary file", err)
}

// set sets all times. A directory that is gone, or another by now, is left alone.
func (t *times) set(tree *tree) error {
	err := t.w.Flush()
	if err == nil {
		_, err = t.file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return kernel("read", "temporary file", err)
	}
	r := bufio.NewReaderSize(t.file, 32<<10)
	path := make([]byte, unix.PathMax)
	for {
		var rec record
		err := binary.Read(r, binary.NativeEndian, &rec)
		if err == io.EOF {
			return nil
		}
		if err == nil {
			_, err = io.ReadFull(r, path[:rec.Length])
		}
		if err != nil {
			return kernel("read", "temporary file", err)
		}
		if err := setTimes(tree, string(path[:rec.Length]), rec); err != nil {
			return err
		}
	}
}

func setTimes(tree *tree, path string, rec record) error {
	fd, err := tree.at(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil && st.Ino == rec.Ino {
		err = futimens(fd, rec.Times)
	}
	return kernel("set the times of", path, err)
}

// futimens is utimensat(2) without a path, which golang.org/x/sys/unix does not have.
func futimens(fd int, ts [2]unix.Timespec) error {
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
