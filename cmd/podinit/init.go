//go:build linux

package main

import (
	"os"
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// firstNamespace is the descriptor of the first namespace that is named in NS. Before it: 0 is the pipe whose first byte
// lets the init go, 1 takes answers, 2 is the daemon's stderr.
const firstNamespace = 3

var kinds = map[string]uintptr{"user": unix.CLONE_NEWUSER, "ipc": unix.CLONE_NEWIPC, "uts": unix.CLONE_NEWUTS,
	"net": unix.CLONE_NEWNET}

// plan is all that the forked copies need, made before the first fork: they cannot allocate. It lies in a mapping of
// its own and holds no pointer of the Go heap, so that the copies can give that heap back.
type plan struct {
	namespaces [4]uintptr // CLONE_NEW… of descriptor firstNamespace + i; 0 ends the list
	user       bool

	view, name, slash, dot, tmpfs, options uintptr // C strings in text
	text                                   [4200]byte
	used                                   int

	program unix.SockFprog
	filter  [16]unix.SockFilter
	ignore  [4]uint64 // struct sigaction: SIG_IGN, no flags, nothing blocked
	signals signals
	caps    unix.CapUserHeader
	noCaps  [2]unix.CapUserData
	byte    [1]byte
	number  [16]byte
	ranges  ranges
}

// startInit forks the init and leaves. NS is a comma-separated list of "user", "ipc", "uts" and "net", in the order of
// their descriptors; the directory for the init's view is the working directory.
func startInit(ns string) int {
	p, err := newPlan()
	if err == nil {
		err = p.fill(ns)
	}
	if err != nil {
		return sorry(err)
	}
	runtime.LockOSThread()
	first := forkInit(p)
	if first < 0 {
		return sorry(&failure{"fork", syscall.Errno(-first)})
	}
	return reap(first)
}

func newPlan() (*plan, error) {
	b, err := unix.Mmap(-1, 0, int(unsafe.Sizeof(plan{})), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, &failure{"memory", err}
	}
	return (*plan)(unsafe.Pointer(&b[0])), nil
}

func (p *plan) fill(ns string) error {
	if ns != "none" {
		for i, name := range strings.Split(ns, ",") {
			kind, ok := kinds[name]
			if !ok || i >= len(p.namespaces) {
				return &failure{"namespaces " + ns, syscall.EINVAL}
			}
			p.namespaces[i] = kind
			p.user = p.user || name == "user"
		}
	}
	view, err := os.Getwd()
	if err != nil {
		return err
	}
	for _, c := range []struct {
		at   *uintptr
		text string
	}{{&p.view, view}, {&p.name, "runtimed-init"}, {&p.slash, "/"}, {&p.dot, "."}, {&p.tmpfs, "tmpfs"},
		{&p.options, "size=4k,nr_inodes=2,mode=555"}} {
		if p.used+len(c.text)+1 > len(p.text) {
			return &failure{"directory " + view, syscall.ENAMETOOLONG}
		}
		*c.at = uintptr(unsafe.Pointer(&p.text[p.used]))
		p.used += copy(p.text[p.used:], c.text) + 1
	}
	p.caps.Version = unix.LINUX_CAPABILITY_VERSION_3
	p.ignore[0] = 1 // SIG_IGN
	f := initFilter()
	p.program = unix.SockFprog{Len: uint16(copy(p.filter[:], f)), Filter: &p.filter[0]}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return err
	}
	p.ranges = findRanges(string(maps), uintptr(unsafe.Pointer(p)))
	return nil
}
