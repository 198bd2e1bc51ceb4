//go:build linux

package main

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// Offsets of struct seccomp_data (seccomp(2)).
const (
	offsetNumber = 0
	offsetArch   = 4
)

// auditArch by GOARCH: AUDIT_ARCH_… of linux/audit.h.
var auditArch = map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}

// initSyscalls are all that the init still does: sleep, and before that its last word.
var initSyscalls = []uint32{unix.SYS_PPOLL, unix.SYS_RESTART_SYSCALL, unix.SYS_WRITE, unix.SYS_CLOSE,
	unix.SYS_RT_SIGRETURN, unix.SYS_EXIT_GROUP}

// initFilter is the init's seccomp program: whoever gets the init to run code of his has no system call to make with
// it. A number of x32 is above all of these, so it is refused with the rest.
func initFilter() []unix.SockFilter {
	stmt := func(code uint16, k uint32) unix.SockFilter { return unix.SockFilter{Code: code, K: k} }
	f := []unix.SockFilter{
		stmt(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, offsetArch),
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: auditArch[runtime.GOARCH], Jt: 1},
		stmt(unix.BPF_RET|unix.BPF_K, unix.SECCOMP_RET_KILL_PROCESS),
		stmt(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, offsetNumber),
	}
	for i, nr := range initSyscalls {
		f = append(f, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: nr, Jt: uint8(len(initSyscalls) - i)})
	}
	return append(f, stmt(unix.BPF_RET|unix.BPF_K, unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM)),
		stmt(unix.BPF_RET|unix.BPF_K, unix.SECCOMP_RET_ALLOW))
}
