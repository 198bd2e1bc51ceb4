//go:build linux

package main

import (
	"errors"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/namespaces/wire"
)

// hold makes the namespaces of the Setup that comes on stdin, says the pid of a process in them, does the rest of the
// Setup there, says how that went, and keeps the process until stdin ends: by then the daemon has pinned the
// namespaces, or has died. The daemon does not clone by itself, because a clone copies the page tables of all its memory.
func hold() int {
	s, err := wire.Read(func(b []byte) (int, error) { return unix.Read(0, b) })
	if err != nil {
		return sorry(err)
	}
	p, err := newHoldPlan(s)
	if err != nil {
		return sorry(err)
	}
	runtime.LockOSThread()
	pid, errno := forkHolder(p)
	if errno != 0 {
		return sorry(&failure{"clone into new namespaces", errno})
	}
	unix.Close(p.sync[0])
	if err := writeMaps(int(pid), s); err != nil {
		unix.Close(p.sync[1]) // so it ends
		reap(int(pid))
		return sorry(err)
	}
	say(1, wire.PID(int(pid)))
	say(p.sync[1], "\n")
	unix.Close(p.sync[1])
	code := reap(int(pid))
	runtime.KeepAlive(p)
	return code
}

// sorry tells the daemon, which knows the text of an errno itself.
func sorry(err error) int {
	r := wire.Reply{Err: err.Error()}
	if f := (*failure)(nil); errors.As(err, &f) && errors.As(f.errno, &r.Errno) {
		r.Err = f.what
	}
	say(1, r.Encode())
	return 1
}

// reap waits for the child and returns its exit status.
func reap(pid int) int {
	var status unix.WaitStatus
	for {
		if _, err := unix.Wait4(pid, &status, 0, nil); err != syscall.EINTR {
			return status.ExitStatus()
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

func writeMaps(pid int, s wire.Setup) error {
	for file, text := range map[string]string{"uid_map": s.UIDMap, "gid_map": s.GIDMap} {
		if text == "" {
			continue
		}
		fd, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/"+file, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			_, err = unix.Write(fd, []byte(text))
			unix.Close(fd)
		}
		if err != nil {
			return &failure{file, err}
		}
	}
	return nil
}

// holdPlan is all that the forked process needs, made before the fork. It and its strings are Go memory: the copy has a
// copy of it that no collector touches.
type holdPlan struct {
	flags    uintptr
	user     bool
	sync     [2]int // pipe: a byte comes when the maps are written
	sys      int    // descriptor of /proc/sys
	hostname []byte
	loopback bool
	ifreq    [40]byte // struct ifreq (netdevice(7)): the name, and flags behind it
	how      unix.OpenHow
	sysctls  []holdSysctl
	signals  signals
	byte     [1]byte
	number   [16]byte
}

type holdSysctl struct {
	path  []byte // NUL-terminated
	value []byte
	what  string // for the error
}

func newHoldPlan(s wire.Setup) (*holdPlan, error) {
	p := &holdPlan{hostname: []byte(s.Hostname), loopback: s.Loopback}
	for _, k := range s.Kinds {
		p.flags |= kinds[k]
	}
	p.user = p.flags&unix.CLONE_NEWUSER != 0
	copy(p.ifreq[:unix.IFNAMSIZ], "lo")
	// A name that leads anywhere else is refused by the kernel.
	p.how = unix.OpenHow{Flags: unix.O_WRONLY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV}
	for _, c := range s.Sysctls {
		p.sysctls = append(p.sysctls, holdSysctl{append([]byte(c.Path), 0), []byte(c.Value),
			"sysctl " + strconv.Quote(c.Path) + " = " + strconv.Quote(c.Value)})
	}
	if err := unix.Pipe2(p.sync[:], unix.O_CLOEXEC); err != nil {
		return nil, &failure{"pipe", err}
	}
	var err error
	if p.sys, err = unix.Open("/proc/sys", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return nil, &failure{"/proc/sys", err}
	}
	return p, nil
}

// forkHolder is in the parent when it returns.
//
//go:nosplit
//go:norace
func forkHolder(p *holdPlan) (pid uintptr, errno syscall.Errno) {
	pid, errno = fork(p.flags|uintptr(unix.SIGCHLD), &p.signals)
	if pid == 0 && errno == 0 {
		holdInside(p)
	}
	return pid, errno
}

//go:nosplit
//go:norace
func holdInside(p *holdPlan) {
	// Without the parent's end, the pipe ends when the parent does.
	syscall.RawSyscall(unix.SYS_CLOSE, uintptr(p.sync[1]), 0, 0)
	if n, _, _ := syscall.RawSyscall(unix.SYS_READ, uintptr(p.sync[0]), ptr(unsafe.Pointer(&p.byte)), 1); n != 1 {
		exit(1)
	}
	if p.user { // the sysctls of IPC namespaces ask for their root's uid, not for a capability
		becomeRoot(&p.number)
	}
	if n := uintptr(len(p.hostname)); n > 0 {
		if _, _, e := syscall.RawSyscall(unix.SYS_SETHOSTNAME, ptr(unsafe.Pointer(unsafe.SliceData(p.hostname))), n, 0); e != 0 {
			die(&p.number, "host name", e)
		}
	}
	if p.loopback {
		if e := loopbackUp(p); e != 0 {
			die(&p.number, "loopback", e)
		}
	}
	for i := range p.sysctls {
		if e := writeSysctl(p, &p.sysctls[i]); e != 0 {
			die(&p.number, p.sysctls[i].what, e)
		}
	}
	tell("ok\n")
	for {
		n, _, e := syscall.RawSyscall(unix.SYS_READ, 0, ptr(unsafe.Pointer(&p.byte)), 1)
		if e != syscall.EINTR && int(n) != 1 {
			exit(0)
		}
	}
}

//go:nosplit
//go:norace
func loopbackUp(p *holdPlan) syscall.Errno {
	s, _, e := syscall.RawSyscall(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if e != 0 {
		return e
	}
	r := ptr(unsafe.Pointer(&p.ifreq))
	if _, _, e = syscall.RawSyscall(unix.SYS_IOCTL, s, unix.SIOCGIFFLAGS, r); e != 0 {
		return e
	}
	*(*uint16)(unsafe.Pointer(&p.ifreq[unix.IFNAMSIZ])) |= unix.IFF_UP
	_, _, e = syscall.RawSyscall(unix.SYS_IOCTL, s, unix.SIOCSIFFLAGS, r)
	return e
}

//go:nosplit
//go:norace
func writeSysctl(p *holdPlan, c *holdSysctl) syscall.Errno {
	fd, _, e := syscall.RawSyscall6(unix.SYS_OPENAT2, uintptr(p.sys), ptr(unsafe.Pointer(unsafe.SliceData(c.path))),
		ptr(unsafe.Pointer(&p.how)), unsafe.Sizeof(p.how), 0, 0)
	if e != 0 {
		return e
	}
	n, _, e := syscall.RawSyscall(unix.SYS_WRITE, fd, ptr(unsafe.Pointer(unsafe.SliceData(c.value))), uintptr(len(c.value)))
	syscall.RawSyscall(unix.SYS_CLOSE, fd, 0, 0)
	if e == 0 && n < uintptr(len(c.value)) {
		return syscall.EINVAL // the kernel took only a part of it
	}
	return e
}
