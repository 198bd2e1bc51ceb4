//go:build linux

package main

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// forkInit makes two processes. The first one, alone in its memory so that the kernel lets it, joins the pod's
// namespaces and forks the second into a new PID namespace, says its pid, and ends: the init's parent is then the
// node's init (or a subreaper above the daemon), which reaps it whatever becomes of the daemon. It returns the pid of
// the first, or -errno.
//
//go:nosplit
//go:norace
func forkInit(p *plan) int {
	pid, errno := fork(uintptr(unix.SIGCHLD), &p.signals)
	if pid == 0 && errno == 0 {
		join(p)
	}
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
			die(&p.number, "join namespace", e)
		}
	}
	pid, _, e := syscall.RawSyscall6(unix.SYS_CLONE, unix.CLONE_NEWPID|unix.CLONE_NEWNS|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if e != 0 {
		die(&p.number, "new PID namespace", e)
	}
	if pid == 0 {
		become(p)
	}
	tell("pid ")
	tellNumber(&p.number, pid)
	tell("\n")
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
		die(&p.number, "close descriptors", e)
	}
	trim(p)
	if _, _, e := syscall.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, ptr(unsafe.Pointer(&p.program))); e != 0 {
		die(&p.number, "seccomp filter", e)
	}
	tell("ok\n")
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
		die(&p.number, "private mounts", e)
	}
	if _, _, e := syscall.RawSyscall6(unix.SYS_MOUNT, p.tmpfs, p.view, p.tmpfs, flags, p.options, 0); e != 0 {
		die(&p.number, "empty root", e)
	}
	if _, _, e := syscall.RawSyscall(unix.SYS_CHDIR, p.view, 0, 0); e != 0 {
		die(&p.number, "empty root", e)
	}
	if _, _, e := syscall.RawSyscall(unix.SYS_PIVOT_ROOT, p.dot, p.dot, 0); e != 0 {
		die(&p.number, "pivot_root", e)
	}
	if _, _, e := syscall.RawSyscall(unix.SYS_UMOUNT2, p.dot, unix.MNT_DETACH, 0); e != 0 {
		die(&p.number, "leave the node's mounts", e)
	}
	syscall.RawSyscall(unix.SYS_CHDIR, p.slash, 0, 0)
}

// dropPrivileges: the pod's root, with no capability and no way to one.
//
//go:nosplit
//go:norace
func dropPrivileges(p *plan) {
	if p.user {
		becomeRoot(&p.number)
	} else if _, _, e := syscall.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); e != 0 {
		die(&p.number, "setgroups", e)
	}
	if e := prctl(unix.PR_SET_NO_NEW_PRIVS, 1); e != 0 {
		die(&p.number, "no_new_privs", e)
	}
	// Without it a container with the node's ids could open /proc/1/exe and the init's memory.
	if e := prctl(unix.PR_SET_DUMPABLE, 0); e != 0 {
		die(&p.number, "PR_SET_DUMPABLE", e)
	}
	if _, _, e := syscall.RawSyscall(unix.SYS_CAPSET, ptr(unsafe.Pointer(&p.caps)), ptr(unsafe.Pointer(&p.noCaps)), 0); e != 0 {
		die(&p.number, "capset", e)
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
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, ptr(unsafe.Pointer(&p.signals.none)), 0, 8, 0, 0)
}
