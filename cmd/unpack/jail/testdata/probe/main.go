// Probe jails itself as the unpack worker does, and says on descriptor 4 what it can still do.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/cmd/unpack/jail"
)

// Report is what the test reads.
type Report struct {
	Effective, Permitted, Inheritable uint64
	Bounding                          []int
	NoNewPrivs                        int
	Descriptors                       []int
	Root, Target, Lower               []string
	Limits                            map[string]uint64
	PID                               int
	Groups                            int
	Env                               []string
	Mount                             map[string]string // what a write or an open answers
	Calls                             map[string]string // what a call answers
	OtherThread                       string            // what socket(2) answers on a thread that was there before
}

func main() {
	runtime.LockOSThread()
	if len(os.Args) == 4 {
		err := jail.Enter(jail.Plan{Target: os.Args[1], Parents: []string{os.Args[2]}, FileSize: 1 << 20, Args: []string{"probe", "inside"}})
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	r := Report{PID: os.Getpid(), Env: os.Environ(), Limits: map[string]uint64{}, Mount: map[string]string{}, Calls: map[string]string{}}
	before(&r)
	tried, sealed := make(chan struct{}), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		<-sealed
		_, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		r.OtherThread = word(err)
		close(tried)
	}()
	if err := jail.Seal(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	close(sealed)
	<-tried
	after(&r)
	if err := json.NewEncoder(os.NewFile(4, "")).Encode(r); err != nil {
		os.Exit(2)
	}
}

// before asks what the filter would not answer.
func before(r *Report) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	unix.Capget(&header, &data[0])
	join := func(low, high uint32) uint64 { return uint64(high)<<32 | uint64(low) }
	r.Effective = join(data[0].Effective, data[1].Effective)
	r.Permitted = join(data[0].Permitted, data[1].Permitted)
	r.Inheritable = join(data[0].Inheritable, data[1].Inheritable)
	for c := 0; c < 64; c++ {
		if v, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0); err == nil && v == 1 {
			r.Bounding = append(r.Bounding, c)
		}
	}
	r.NoNewPrivs, _ = unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	groups, _ := unix.Getgroups()
	r.Groups = len(groups)
	for fd := 0; fd < 1024; fd++ {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			r.Descriptors = append(r.Descriptors, fd)
		}
	}
	// Directories made by the worker take these at once.
	unix.Mknodat(unix.AT_FDCWD, jail.Target+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))
}

func after(r *Report) {
	r.Root, r.Target, r.Lower = list("/"), list(jail.Target), list(jail.Lower(0))
	for name, what := range map[string]int{"data": unix.RLIMIT_DATA, "fsize": unix.RLIMIT_FSIZE, "nofile": unix.RLIMIT_NOFILE, "core": unix.RLIMIT_CORE} {
		var l unix.Rlimit
		unix.Prlimit(0, what, nil, &l)
		r.Limits[name] = l.Max
	}
	open := func(name, path string, flags int) {
		fd, err := unix.Openat(unix.AT_FDCWD, path, flags, 0o600)
		r.Mount[name] = word(err)
		if err == nil {
			unix.Close(fd)
		}
	}
	open("new file in root", "/x", unix.O_CREAT|unix.O_WRONLY)
	open("new file in lower", jail.Lower(0)+"/x", unix.O_CREAT|unix.O_WRONLY)
	open("write file in lower", jail.Lower(0)+"/file", unix.O_WRONLY)
	open("new file in target", jail.Target+"/x", unix.O_CREAT|unix.O_WRONLY)
	open("device in target", jail.Target+"/null", unix.O_RDONLY)
	open("proc", "/proc/self/status", unix.O_RDONLY)
	open("up", "../../../../../../etc/passwd", unix.O_RDONLY)
	r.Mount["trusted attribute"] = word(unix.Fsetxattr(dir(), "trusted.overlay.opaque", []byte("y"), 0))
	calls(r)
}

func dir() int {
	fd, _ := unix.Openat(unix.AT_FDCWD, jail.Target, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	return fd
}

func calls(r *Report) {
	path := [2]byte{'/', 0}
	p := uintptr(unsafe.Pointer(&path[0]))
	for _, c := range []struct {
		name    string
		nr      uintptr
		a, b, c uintptr
	}{
		{"socket", unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM, 0}, {"socketpair", unix.SYS_SOCKETPAIR, unix.AF_UNIX, unix.SOCK_STREAM, 0},
		{"connect", unix.SYS_CONNECT, 0, 0, 0}, {"execve", unix.SYS_EXECVE, p, 0, 0}, {"execveat", unix.SYS_EXECVEAT, 0, p, 0},
		{"fork", unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0}, {"mount", unix.SYS_MOUNT, p, p, p}, {"umount2", unix.SYS_UMOUNT2, p, 0, 0},
		{"pivot_root", unix.SYS_PIVOT_ROOT, p, p, 0}, {"chroot", unix.SYS_CHROOT, p, 0, 0}, {"unshare", unix.SYS_UNSHARE, unix.CLONE_NEWUSER, 0, 0},
		{"setns", unix.SYS_SETNS, 0, 0, 0}, {"ptrace", unix.SYS_PTRACE, 0, 0, 0}, {"bpf", unix.SYS_BPF, 0, 0, 0}, {"keyctl", unix.SYS_KEYCTL, 0, 0, 0},
		{"add_key", unix.SYS_ADD_KEY, p, p, 0}, {"io_uring_setup", unix.SYS_IO_URING_SETUP, 1, 0, 0}, {"userfaultfd", unix.SYS_USERFAULTFD, 0, 0, 0},
		{"perf_event_open", unix.SYS_PERF_EVENT_OPEN, 0, 0, 0}, {"open_by_handle_at", unix.SYS_OPEN_BY_HANDLE_AT, 0, 0, 0},
		{"name_to_handle_at", unix.SYS_NAME_TO_HANDLE_AT, 0, p, 0}, {"kill", unix.SYS_KILL, 1, 0, 0}, {"setuid", unix.SYS_SETUID, 1, 0, 0},
		{"capset", unix.SYS_CAPSET, 0, 0, 0}, {"prctl", unix.SYS_PRCTL, unix.PR_SET_NAME, p, 0}, {"seccomp", unix.SYS_SECCOMP, 0, 0, 0},
		{"memfd_create", unix.SYS_MEMFD_CREATE, p, 0, 0}, {"fsopen", unix.SYS_FSOPEN, p, 0, 0}, {"open_tree", unix.SYS_OPEN_TREE, 0, p, 0},
		{"move_mount", unix.SYS_MOVE_MOUNT, 0, 0, 0}, {"mount_setattr", unix.SYS_MOUNT_SETATTR, 0, p, 0}, {"quotactl", unix.SYS_QUOTACTL, 0, 0, 0},
		{"init_module", unix.SYS_INIT_MODULE, 0, 0, 0}, {"finit_module", unix.SYS_FINIT_MODULE, 0, 0, 0}, {"kexec_load", unix.SYS_KEXEC_LOAD, 0, 0, 0},
		{"reboot", unix.SYS_REBOOT, 0, 0, 0}, {"swapon", unix.SYS_SWAPON, p, 0, 0}, {"sethostname", unix.SYS_SETHOSTNAME, p, 1, 0},
		{"ioctl", unix.SYS_IOCTL, 0, 0, 0}, {"pidfd_open", unix.SYS_PIDFD_OPEN, 1, 0, 0}, {"process_vm_readv", unix.SYS_PROCESS_VM_READV, 1, 0, 0},
		{"landlock_create_ruleset", unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, 1}, {"shmget", unix.SYS_SHMGET, 0, 1, 0}, {"mq_open", unix.SYS_MQ_OPEN, p, 0, 0},
		{"personality", unix.SYS_PERSONALITY, 0, 0, 0}, {"setrlimit", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_CORE, p}, {"chdir", unix.SYS_CHDIR, p, 0, 0},
		{"dup3", unix.SYS_DUP3, 0, 100, 0}, {"fsync", unix.SYS_FSYNC, 4, 0, 0}, {"syncfs", unix.SYS_SYNCFS, 4, 0, 0},
	} {
		_, _, errno := unix.RawSyscall(c.nr, c.a, c.b, c.c)
		if errno == 0 && c.name == "fork" {
			r.Calls[c.name] = "ok"
			continue
		}
		if errno == 0 {
			r.Calls[c.name] = "ok"
		} else {
			r.Calls[c.name] = word(errno)
		}
	}
}

func list(path string) []string {
	entries, err := os.ReadDir(path)
	if err != nil {
		return []string{"error: " + err.Error()}
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func word(err error) string {
	if err == nil {
		return "ok"
	}
	if errno, ok := err.(unix.Errno); ok {
		return unix.ErrnoName(errno)
	}
	return strings.TrimSpace(err.Error())
}
