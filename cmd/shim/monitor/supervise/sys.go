package supervise

import (
	"syscall"
	"unsafe"
)

// Numbers that package syscall lacks; the system call numbers are those of every 64-bit architecture (since Linux 5.1
// new calls have one number everywhere).
const (
	sysPidfdSendSignal = 424
	sysPidfdOpen       = 434

	clockRealtime   = 0
	clockMonotonic  = 1
	fSetPipeSize    = 1031
	pollIn          = 1
	pollOut         = 4
	atFdcwd         = -100
	renameNoReplace = 1
)

type pollFd struct {
	fd      int32
	events  int16
	revents int16
}

// poll waits without limit.
func poll(fds []pollFd) error {
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&fds[0])), uintptr(len(fds)), 0, 0, 0, 0)
		if errno == 0 {
			return nil
		}
		if errno != syscall.EINTR {
			return errno
		}
	}
}

// pollFor waits for some ns, and returns how many descriptors are ready.
func pollFor(fds []pollFd, ns int64) int {
	ts := syscall.NsecToTimespec(ns)
	n, _, errno := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&fds[0])), uintptr(len(fds)),
		uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}

func clock(id uintptr) int64 {
	var ts syscall.Timespec
	syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, id, uintptr(unsafe.Pointer(&ts)), 0)
	return ts.Nano()
}

func now() int64 { return clock(clockRealtime) }

// pause sleeps for some ms.
func pause(ms int64) {
	ts := syscall.NsecToTimespec(ms * 1e6)
	syscall.Nanosleep(&ts, nil)
}

func pidfdOpen(pid int) (int, error) {
	fd, _, errno := syscall.RawSyscall(sysPidfdOpen, uintptr(pid), 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

func pidfdKill(fd int) {
	syscall.RawSyscall6(sysPidfdSendSignal, uintptr(fd), uintptr(syscall.SIGKILL), 0, 0, 0, 0)
}

func fcntl(fd int, cmd, arg uintptr) error {
	if _, _, errno := syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(fd), cmd, arg); errno != 0 {
		return errno
	}
	return nil
}

// accept returns a connection and its peer's user id. syscall.Accept would allocate.
func accept(listen int) (fd int, uid uint32, err error) {
	const flags = syscall.SOCK_NONBLOCK | syscall.SOCK_CLOEXEC
	c, _, errno := syscall.RawSyscall6(syscall.SYS_ACCEPT4, uintptr(listen), 0, 0, flags, 0, 0)
	if errno != 0 {
		return -1, 0, errno
	}
	var cred syscall.Ucred
	size := uint32(syscall.SizeofUcred)
	_, _, errno = syscall.RawSyscall6(syscall.SYS_GETSOCKOPT, c, syscall.SOL_SOCKET, syscall.SO_PEERCRED,
		uintptr(unsafe.Pointer(&cred)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		syscall.Close(int(c))
		return -1, 0, errno
	}
	return int(c), cred.Uid, nil
}

func send(fd int, p []byte) error {
	_, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)),
		syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func sendMessage(fd int, m *syscall.Msghdr) error {
	_, _, errno := syscall.RawSyscall(syscall.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(m)),
		syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL)
	if errno != 0 {
		return errno
	}
	return nil
}

func setWindowSize(fd int, width, height uint16) error {
	size := [4]uint16{height, width}
	_, _, errno := syscall.RawSyscall(syscall.SYS_IOCTL, uintptr(fd), syscall.TIOCSWINSZ, uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return errno
	}
	return nil
}

// ignore makes the process deaf to a signal. os/signal would link much more.
func ignore(sig syscall.Signal) {
	action := [4]uintptr{1} // struct sigaction with SIG_IGN
	syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0)
}

// renameNew renames without ever replacing.
func renameNew(from, to string) error {
	a, err := syscall.BytePtrFromString(from)
	if err != nil {
		return err
	}
	b, err := syscall.BytePtrFromString(to)
	if err != nil {
		return err
	}
	cwd := atFdcwd
	_, _, errno := syscall.Syscall6(sysRenameat2, uintptr(cwd), uintptr(unsafe.Pointer(a)), uintptr(cwd),
		uintptr(unsafe.Pointer(b)), renameNoReplace, 0)
	if errno == 0 {
		return nil
	}
	if errno != syscall.EINVAL {
		return errno
	}
	// The file system cannot: link(2) does not replace either.
	if err := syscall.Link(from, to); err != nil {
		return err
	}
	return syscall.Unlink(from)
}

// readFile reads at most len(buf) bytes of a file of /proc, /sys or the like.
func readFile(path string, buf []byte) ([]byte, error) {
	fd, err := open(path, syscall.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer syscall.Close(fd)
	n := 0
	for n < len(buf) {
		k, err := syscall.Read(fd, buf[n:])
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if k == 0 {
			break
		}
		n += k
	}
	return buf[:n], nil
}

// writeFile writes to a file that is there, in one write.
func writeFile(path, text string) error {
	fd, err := open(path, syscall.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = syscall.Write(fd, []byte(text))
	syscall.Close(fd)
	return err
}

func open(path string, flags int, mode uint32) (int, error) {
	for {
		fd, err := syscall.Open(path, flags|syscall.O_CLOEXEC, mode)
		if err != syscall.EINTR {
			return fd, err
		}
	}
}
