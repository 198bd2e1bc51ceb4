package logfile

import (
	"errors"
	"syscall"
)

var errKind = errors.New("it is not a regular file")

// descriptor is the real kernel.
type descriptor int

// open never waits, for a FIFO's reader say: a file that is not regular is refused only once it is open.
func open(path string) (descriptor, error) {
	const flags = syscall.O_WRONLY | syscall.O_APPEND | syscall.O_CREAT | syscall.O_CLOEXEC | syscall.O_NOFOLLOW |
		syscall.O_NONBLOCK | syscall.O_NOCTTY
	fd, err := syscall.Open(path, flags, 0o640)
	for err == syscall.EINTR {
		fd, err = syscall.Open(path, flags, 0o640)
	}
	switch err {
	case nil:
	case syscall.ELOOP:
		return -1, errors.New("open log file " + path + ": it is a symbolic link; a log must be a file of its own")
	case syscall.ENXIO:
		return -1, errors.New("open log file " + path + ": " + errKind.Error())
	default:
		return -1, errors.New("open log file " + path + ": " + err.Error())
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil || st.Mode&syscall.S_IFMT != syscall.S_IFREG {
		syscall.Close(fd)
		return -1, errors.New("open log file " + path + ": " + errKind.Error())
	}
	return descriptor(fd), nil
}

func (d descriptor) write(p []byte) (int, error) { return syscall.Write(int(d), p) }

func (d descriptor) size() (int64, error) {
	var st syscall.Stat_t
	err := syscall.Fstat(int(d), &st)
	return st.Size, err
}

func (d descriptor) truncate(size int64) error { return syscall.Ftruncate(int(d), size) }
func (d descriptor) close() error              { return syscall.Close(int(d)) }
