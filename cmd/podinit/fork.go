//go:build linux

package main

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Everything below runs in a forked copy of a Go process: it has one thread and no scheduler, and may make raw system
// calls only. No allocation, no stack growth, no pointer stores, no call that is not nosplit.

// forkInit makes two processes. The first one, alone in its memory so that the kernel lets it, joins the pod's
// namespaces and forks the second into a new PID namespace, says its pid, and ends: the init's parent is then the
// node's init (or a subreaper above the daemon), which reaps it whatever becomes of the daemon. It returns the pid of
// the first, or -errno.
//
//go:nosplit
//go:norace
func forkInit(p *plan) int {
	// No signal handler of the runtime may run in the copies.
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, ptr(unsafe.Pointer(&p.allSignals)),
		ptr(unsafe.Pointer(&p.oldSignals)), 8, 0, 0)
	pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if pid == 0 && errno == 0 {
		join(p)
	}
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, ptr(unsafe.Pointer(&p.oldSignals)), 0, 8, 0, 0)
	if errno != 0 {
		return -int(errno)
	}
	return int(pid)
}

//go:nosplit
//go:norace
func join(p *plan) {
	for i := uintptr(0); i < 4 && p.namespaces[i] != 0; i++ {
		if _, _, e := syscall.RawSyscall(unix.SYS_SETNS, firstNamespace+i, p.namespaces[i], 0); e != 0 {
			die(p, "join namespace", e)
		}
	}
	pid, _, e := syscall.RawSyscall6(unix.SYS_CLONE, unix.CLONE_NEWPID|unix.CLONE_NEWNS|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if e != 0 {
		die(p, "new PID namespace", e)
	}
	if pid == 0 {
		become(p)
	}
	tell(p, "pid ")
	tellNumber(p, pid)
	tell(p, "\n")
	exit(0)
}

// become is the init, PID 1, until it is killed.
//
//go:nosplit
//go:norace
func become(p *plan) {
	prctl(unix.PR_SET_NAME, p.name)
	// Not a step before the daemon has placed this process in its cgroup: nothing that it does is charged elsewhere.
	if n, _, _ := syscall.RawSyscall(unix.SYS_READ, 0, ptr(unsafe.Pointer(&p.byte[0])), 1); n != 1 {
		exit(1)
	}
	syscall.RawSyscall(unix.SYS_SETSID, 0, 0, 0)
	leaveMounts(p)
	dropPrivileges(p)
	ignoreSignals(p)
	syscall.RawSyscall(unix.SYS_CLOSE, 0, 0, 0)
	if _, _, e := syscall.RawSyscall(unix.SYS_CLOSE_RANGE, 2, uintptr(^uint32(0)), 0); e != 0 {
		die(p, "close descriptors", e)
	}
	trim(p)
	if _, _, e := syscall.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, ptr(unsafe.Pointer(&p.program))); e != 0 {
		die(p, "seccomp filter", e)
	}
	tell(p, "ok\n")
	syscall.RawSyscall(unix.SYS_CLOSE, 1, 0, 0)
	for {
		syscall.RawSyscall6(unix.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
	}
}

// leaveMounts leaves an empty read-only root, so that no copy of the node's mounts is kept, and none can be reached.
//
//go:nosplit
//go:norace
func leaveMounts(p *plan) {
	const flags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if _, _, e := syscall.RawSyscall6(unix.SYS_MOUNT, 0, p.slash, 0, unix.MS_REC|unix.MS_PRIVATE, 0, 0); e != 0 {
		die(p, "private mounts", e)
	}
	if _, _, e := syscall.RawSyscall6(unix.SYS_MOUNT, p.tmpfs, p.view, p.tmpfs, flags, p.options, 0); e != 0 {
		die(p, "empty root", e)
	}
	if _, _, e := syscall.RawSyscall(unix.SYS_CHDIR, p.view, 0, 0); e != 0 {
		die(p, "empty root", e)
	}
	if _, _, e := syscall.RawSyscall(unix.SYS_PIVOT_ROOT, p.dot, p.dot, 0); e != 0 {
		die(p, "pivot_root", e)
	}
	if _, _, e := syscall.RawSyscall(unix.SYS_UMOUNT2, p.dot, unix.MNT_DETACH, 0); e != 0 {
		die(p, "leave the node's mounts", e)
	}
	syscall.RawSyscall(unix.SYS_CHDIR, p.slash, 0, 0)
}

// dropPrivileges: the pod's root, with no capability and no way to one.
//
//go:nosplit
//go:norace
func dropPrivileges(p *plan) {
	if _, _, e := syscall.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); e != 0 {
		die(p, "setgroups", e)
	}
	if p.user {
		if _, _, e := syscall.RawSyscall(unix.SYS_SETRESGID, 0, 0, 0); e != 0 {
			die(p, "setresgid", e)
		}
		if _, _, e := syscall.RawSyscall(unix.SYS_SETRESUID, 0, 0, 0); e != 0 {
			die(p, "setresuid", e)
		}
	}
	if e := prctl(unix.PR_SET_NO_NEW_PRIVS, 1); e != 0 {
		die(p, "no_new_privs", e)
	}
	// Without it a container with the node's ids could open /proc/1/exe and the init's memory.
	if e := prctl(unix.PR_SET_DUMPABLE, 0); e != 0 {
		die(p, "PR_SET_DUMPABLE", e)
	}
	if _, _, e := syscall.RawSyscall(unix.SYS_CAPSET, ptr(unsafe.Pointer(&p.caps)), ptr(unsafe.Pointer(&p.noCaps)), 0); e != 0 {
		die(p, "capset", e)
	}
}

// ignoreSignals leaves SIGKILL and SIGSTOP, which only a process outside the pod can send. An ignored SIGCHLD makes the
// kernel reap every child at its death, adopted ones too (wait(2), NOTES): no zombie, and nothing to wake up for.
//
//go:nosplit
//go:norace
func ignoreSignals(p *plan) {
	for sig := uintptr(1); sig <= 64; sig++ {
		if sig != uintptr(unix.SIGKILL) && sig != uintptr(unix.SIGSTOP) {
			syscall.RawSyscall6(unix.SYS_RT_SIGACTION, sig, ptr(unsafe.Pointer(&p.ignore)), 0, 8, 0, 0)
		}
	}
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, ptr(unsafe.Pointer(&p.noSignals)), 0, 8, 0, 0)
}

//go:nosplit
//go:norace
func prctl(option int, arg uintptr) syscall.Errno {
	_, _, e := syscall.RawSyscall6(unix.SYS_PRCTL, uintptr(option), arg, 0, 0, 0, 0)
	return e
}

//go:nosplit
//go:norace
func tell(p *plan, text string) {
	syscall.RawSyscall(unix.SYS_WRITE, 1, ptr(unsafe.Pointer(unsafe.StringData(text))), uintptr(len(text)))
}

//go:nosplit
//go:norace
func tellNumber(p *plan, n uintptr) {
	i := len(p.number)
	for i > 0 {
		i--
		p.number[i&15] = byte('0' + n%10)
		if n /= 10; n == 0 {
			break
		}
	}
	syscall.RawSyscall(unix.SYS_WRITE, 1, ptr(unsafe.Pointer(&p.number[i&15])), uintptr(len(p.number)-i))
}

// die says "error <errno> <what>" and ends.
//
//go:nosplit
//go:norace
func die(p *plan, what string, e syscall.Errno) {
	tell(p, "error ")
	tellNumber(p, uintptr(e))
	tell(p, " ")
	tell(p, what)
	tell(p, "\n")
	exit(1)
}

//go:nosplit
//go:norace
func exit(code uintptr) {
	for {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, code, 0, 0)
	}
}

// ptr hides a pointer from escape analysis; what it points to is on this stack, in the plan or a constant.
//
//go:nosplit
//go:norace
func ptr(p unsafe.Pointer) uintptr { return uintptr(p) }
