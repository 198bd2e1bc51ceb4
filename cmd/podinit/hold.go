//go:build linux

package main

import (
	"errors"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/namespaces/wire"
)

// hold does the Setup that comes on stdin, answers on stdout, and keeps the namespaces until stdin ends: by then the
// daemon has pinned them, or has died.
func hold() int {
	s, err := wire.Read(func(b []byte) (int, error) { return unix.Read(0, b) })
	if err == nil {
		err = apply(s)
	}
	if err != nil {
		var errno syscall.Errno
		errors.As(err, &errno)
		say(1, wire.Reply{Err: err.Error(), Errno: errno}.Encode())
		return 1
	}
	say(1, wire.Ready)
	for b := make([]byte, 16); ; {
		n, err := unix.Read(0, b)
		if err != syscall.EINTR && n <= 0 {
			return 0
		}
	}
}

// failure is an errno with what was tried.
type failure struct {
	what  string
	errno error
}

func (f *failure) Error() string { return f.what + ": " + f.errno.Error() }
func (f *failure) Unwrap() error { return f.errno }

func apply(s wire.Setup) error {
	if s.Hostname != "" {
		if err := unix.Sethostname([]byte(s.Hostname)); err != nil {
			return &failure{"host name " + strconv.Quote(s.Hostname), err}
		}
	}
	if s.Loopback {
		if err := loopbackUp(); err != nil {
			return &failure{"loopback", err}
		}
	}
	if len(s.Sysctls) == 0 {
		return nil
	}
	root, err := unix.Open("/proc/sys", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &failure{"/proc/sys", err}
	}
	for _, c := range s.Sysctls {
		if err := write(root, c); err != nil {
			return &failure{"sysctl " + strconv.Quote(c.Path) + " = " + strconv.Quote(c.Value), err}
		}
	}
	return nil
}

// write opens below root only: a name of it that leads anywhere else is refused by the kernel.
func write(root int, c wire.Sysctl) error {
	fd, err := unix.Openat2(root, c.Path, &unix.OpenHow{Flags: unix.O_WRONLY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	n, err := unix.Write(fd, []byte(c.Value))
	if err == nil && n < len(c.Value) {
		err = syscall.EINVAL // the kernel took only a part of it
	}
	return err
}

func loopbackUp() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	r, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(s, unix.SIOCGIFFLAGS, r); err != nil {
		return err
	}
	r.SetUint16(r.Uint16() | unix.IFF_UP)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, r)
}
