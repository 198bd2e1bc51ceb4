//go:build linux

package main

import (
	"encoding/binary"
	"os"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// run interprets a classic BPF program of the instructions that the filter has.
func run(t *testing.T, f []unix.SockFilter, data []byte) uint32 {
	t.Helper()
	var a uint32
	for pc := 0; pc < len(f); pc++ {
		switch in := f[pc]; in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			a = binary.NativeEndian.Uint32(data[in.K:])
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			if a == in.K {
				pc += int(in.Jt)
			} else {
				pc += int(in.Jf)
			}
		case unix.BPF_RET | unix.BPF_K:
			return in.K
		default:
			t.Fatalf("instruction %#x", in.Code)
		}
	}
	t.Fatal("the program has no end")
	return 0
}

func TestFilter(t *testing.T) {
	f := initFilter()
	if len(f) > len(plan{}.filter) {
		t.Fatalf("%d instructions do not fit", len(f))
	}
	data := make([]byte, 64)
	verdict := func(nr, arch uint32) uint32 {
		binary.NativeEndian.PutUint32(data[offsetNumber:], nr)
		binary.NativeEndian.PutUint32(data[offsetArch:], arch)
		return run(t, f, data)
	}
	native := auditArch["amd64"]
	if unix.SYS_PPOLL != 271 {
		native = auditArch["arm64"]
	}
	const x32 = 0x40000000
	for nr := range uint32(1024) {
		want := uint32(unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM))
		if slices.Contains(initSyscalls, nr) {
			want = unix.SECCOMP_RET_ALLOW
		}
		if got := verdict(nr, native); got != want {
			t.Errorf("system call %d: %#x, want %#x", nr, got, want)
		}
		if got := verdict(nr|x32, native); got == unix.SECCOMP_RET_ALLOW {
			t.Errorf("x32 %d is allowed", nr)
		}
		if got := verdict(nr, unix.AUDIT_ARCH_I386); got != unix.SECCOMP_RET_KILL_PROCESS {
			t.Errorf("i386 %d: %#x", nr, got)
		}
	}
}

const maps = `00400000-00480000 r-xp 00000000 fe:00 100 /usr/bin/runtimed-init
00520000-00530000 rw-p 00120000 fe:00 100 /usr/bin/runtimed-init
00530000-00560000 rw-p 00000000 00:00 0
c000000000-c000400000 rw-p 00000000 00:00 0 [anon: Go: heap]
c000400000-c004000000 ---p 00000000 00:00 0
7f0000000000-7f0000010000 rw-p 00000000 00:00 0
7f0000020000-7f0000021000 rw-p 00000000 00:00 0
7f0000030000-7f0000031000 rw-s 00000000 00:01 5 /dev/zero
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0 [stack]
7ffc00100000-7ffc00102000 r-xp 00000000 00:00 0 [vdso]
`

func TestFindRanges(t *testing.T) {
	got := findRanges(maps, 0x7f0000020010)
	want := ranges{{0xc000000000, 0xc000400000}, {0x7f0000000000, 0x7f0000010000}}
	if got != want {
		t.Errorf("%x, want %x", got, want)
	}
}

// TestFindRangesOfThisProcess: neither the plan nor the initial stack is among them, and they are not empty.
func TestFindRangesOfThisProcess(t *testing.T) {
	b, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	p, err := newPlan()
	if err != nil {
		t.Fatal(err)
	}
	at := uintptr(unsafe.Pointer(p))
	r := findRanges(string(b), at)
	if r[0][1] == 0 {
		t.Error("nothing to give back")
	}
	for _, x := range r {
		if x[0] <= at && at < x[1] {
			t.Error("the plan is among them")
		}
	}
}

func FuzzFindRanges(f *testing.F) {
	f.Add(maps, uint64(0))
	f.Add("1-2 rw-p 0 0:0 0 x\n-\nff-0 rw-p 0 0 0\n", uint64(1))
	f.Fuzz(func(t *testing.T, text string, keep uint64) {
		for _, x := range findRanges(text, uintptr(keep)) {
			if x[0] > x[1] || x[0] <= uintptr(keep) && uintptr(keep) < x[1] {
				t.Errorf("range %x", x)
			}
		}
	})
}

func TestFillRefuses(t *testing.T) {
	for _, ns := range []string{"", "mnt", "user,user,user,user,user", "user,", "NET"} {
		p, err := newPlan()
		if err != nil {
			t.Fatal(err)
		}
		if err := p.fill(ns); err == nil {
			t.Errorf("namespaces %q were taken", ns)
		}
	}
}
