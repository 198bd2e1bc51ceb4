package jail

import (
	"fmt"

	seccomp "github.com/seccomp/libseccomp-golang"
	"golang.org/x/sys/unix"
)

// files are the calls that untar makes. Those that take a path see the jail's root alone.
var files = []string{
	"read", "readv", "write", "pread64", "lseek", "close", "openat", "openat2", "fstat", "newfstatat", "statx",
	"getdents64", "ftruncate", "mkdirat", "mknodat", "symlinkat", "linkat", "unlinkat", "readlinkat",
	"fchown", "fchownat", "fchmod", "fchmodat", "utimensat",
	"fsetxattr", "fgetxattr", "flistxattr",
}

// runtime are the calls that Go's runtime and libc make: memory, threads, signals to threads of this process, time.
var runtime = []string{
	"mmap", "munmap", "mprotect", "mremap", "madvise", "brk", "mincore",
	"futex", "set_robust_list", "rseq", "gettid", "getpid", "sched_yield", "sched_getaffinity", "set_tid_address",
	"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "tgkill", "restart_syscall",
	"nanosleep", "clock_nanosleep", "clock_gettime", "clock_getres", "gettimeofday", "getrandom",
	"epoll_create1", "epoll_ctl", "epoll_pwait", "eventfd2", "pipe2",
	"exit", "exit_group",
}

// Seal allows the listed system calls, and threads, to all threads of the process from now on. Everything else answers
// EPERM, of another architecture it kills the process: the list is an allow-list, so what a newer runtime might try besides
// (prctl to name memory, clone3 before clone) fails where it expects failure, instead of ending the work.
func Seal() error {
	// NewFilter asks for the filter to be loaded into all threads (SECCOMP_FILTER_FLAG_TSYNC).
	filter, err := seccomp.NewFilter(seccomp.ActErrno.SetReturnCode(int16(unix.EPERM)))
	if err != nil {
		return fmt.Errorf("seccomp: %w", err)
	}
	defer filter.Release()
	if err := rules(filter); err != nil {
		return fmt.Errorf("seccomp: %w", err)
	}
	if err := filter.Load(); err != nil {
		return fmt.Errorf("seccomp: load: %w", err)
	}
	return nil
}

func rules(filter *seccomp.ScmpFilter) error {
	if err := filter.SetBadArchAction(seccomp.ActKillProcess); err != nil {
		return err
	}
	for _, list := range [][]string{files, runtime} {
		for _, name := range list {
			call, err := seccomp.GetSyscallFromName(name)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if err := filter.AddRule(call, seccomp.ActAllow); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return special(filter)
}

// special are the calls that depend on their arguments.
func special(filter *seccomp.ScmpFilter) error {
	const thread = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_THREAD
	for _, r := range []struct {
		name   string
		action seccomp.ScmpAction
		arg    uint
		mask   uint64 // 0: the argument as a whole
		value  uint64
		any    bool
	}{
		// Threads, no processes; clone3 hides its flags in memory, so it is not there, and libc falls back to clone.
		{name: "clone", action: seccomp.ActAllow, mask: thread, value: thread},
		{name: "clone3", action: seccomp.ActErrno.SetReturnCode(int16(unix.ENOSYS)), any: true},
		// os.NewFile asks whether a descriptor blocks.
		{name: "fcntl", action: seccomp.ActAllow, arg: 1, value: unix.F_GETFL},
		{name: "fcntl", action: seccomp.ActAllow, arg: 1, value: unix.F_SETFL},
		{name: "fcntl", action: seccomp.ActAllow, arg: 1, value: unix.F_GETFD},
		{name: "fcntl", action: seccomp.ActAllow, arg: 1, value: unix.F_SETFD},
		// Reading limits, of this process.
		{name: "prlimit64", action: seccomp.ActAllow, arg: 2, value: 0},
	} {
		call, err := seccomp.GetSyscallFromName(r.name)
		if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		if r.any {
			err = filter.AddRule(call, r.action)
		} else {
			var cond seccomp.ScmpCondition
			if r.mask != 0 {
				cond, err = seccomp.MakeCondition(r.arg, seccomp.CompareMaskedEqual, r.mask, r.value)
			} else {
				cond, err = seccomp.MakeCondition(r.arg, seccomp.CompareEqual, r.value)
			}
			if err == nil {
				err = filter.AddRuleConditional(call, r.action, []seccomp.ScmpCondition{cond})
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
	}
	return nil
}
