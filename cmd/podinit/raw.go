//go:build linux

package main

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Everything that is marked nosplit here runs in a forked copy of a Go process: it has one thread and no scheduler, and
// may make raw system calls only. No allocation, no stack growth, no pointer stores, no call that is not nosplit.

// signals are masks that outlive a fork.
type signals struct{ all, old, none uint64 }

// fork is clone(2) with the flags, in the caller's own memory afterwards. The caller is locked to its thread. In the
// copy, where pid is 0, every signal is blocked: no handler of the runtime may run there.
//
//go:nosplit
//go:norace
func fork(flags uintptr, s *signals) (pid uintptr, errno syscall.Errno) {
	s.all = ^uint64(0)
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, ptr(unsafe.Pointer(&s.all)), ptr(unsafe.Pointer(&s.old)), 8, 0, 0)
	pid, _, errno = syscall.RawSyscall6(unix.SYS_CLONE, flags, 0, 0, 0, 0, 0)
	if pid != 0 || errno != 0 {
		syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, ptr(unsafe.Pointer(&s.old)), 0, 8, 0, 0)
	}
	return pid, errno
}

// becomeRoot takes the ids of the root of the user namespace that it is in.
//
//go:nosplit
//go:norace
func becomeRoot(number *[16]byte) {
	if _, _, e := syscall.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); e != 0 {
		die(number, "setgroups", e)
	}
	if _, _, e := syscall.RawSyscall(unix.SYS_SETRESGID, 0, 0, 0); e != 0 {
		die(number, "setresgid", e)
	}
	if _, _, e := syscall.RawSyscall(unix.SYS_SETRESUID, 0, 0, 0); e != 0 {
		die(number, "setresuid", e)
	}
}

//go:nosplit
//go:norace
func prctl(option int, arg uintptr) syscall.Errno {
	_, _, e := syscall.RawSyscall6(unix.SYS_PRCTL, uintptr(option), arg, 0, 0, 0, 0)
	return e
}

//go:nosplit
//go:norace
func tell(text string) {
	syscall.RawSyscall(unix.SYS_WRITE, 1, ptr(unsafe.Pointer(unsafe.StringData(text))), uintptr(len(text)))
}

//go:nosplit
//go:norace
func tellNumber(buf *[16]byte, n uintptr) {
	i := len(buf)
	for i > 0 {
		i--
		buf[i&15] = byte('0' + n%10)
		if n /= 10; n == 0 {
			break
		}
	}
	syscall.RawSyscall(unix.SYS_WRITE, 1, ptr(unsafe.Pointer(&buf[i&15])), uintptr(len(buf)-i))
}

// die says "error <errno> <what>" and ends.
//
//go:nosplit
//go:norace
func die(number *[16]byte, what string, e syscall.Errno) {
	tell("error ")
	tellNumber(number, uintptr(e))
	tell(" ")
	tell(what)
	tell("\n")
	exit(1)
}

//go:nosplit
//go:norace
func exit(code uintptr) {
	for {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, code, 0, 0)
	}
}

// ptr hides a pointer from escape analysis; what it points to is on this stack, in a plan or a constant.
//
//go:nosplit
//go:norace
func ptr(p unsafe.Pointer) uintptr { return uintptr(p) }
