//go:build linux

package main

import (
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	maxRanges = 32
	// keepStack is what the init keeps on either side of its stack pointer: its frames need some hundred bytes.
	keepStack = 8 << 10
	pageMask  = 4096 - 1 // of the smallest page; a larger page only makes the kernel refuse, and less is given back
)

// ranges are start and end of the runtime's writable memory, which a forked copy without a scheduler never reads.
type ranges [maxRanges][2]uintptr

// findRanges reads them from the text of /proc/self/maps (proc_pid_maps(5)): private anonymous memory, but not the
// initial stack, which holds the arguments that ps shows, nor what follows a file directly, which is its bss, nor the
// mapping that holds the address keep.
func findRanges(maps string, keep uintptr) (r ranges) {
	n, fileEnd := 0, uintptr(0)
	for line := range strings.Lines(maps) {
		f := strings.Fields(line)
		if len(f) < 5 {
			continue
		}
		from, to, _ := strings.Cut(f[0], "-")
		start, err1 := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		if err1 != nil || err2 != nil || start >= end {
			continue
		}
		s, e := uintptr(start), uintptr(end)
		if len(f) > 5 && f[5][0] == '/' {
			fileEnd = e
			continue
		}
		named := len(f) > 5 && f[5][0] == '[' && !strings.HasPrefix(f[5], "[anon:")
		if f[1] != "rw-p" || named || s == fileEnd || s <= keep && keep < e || n == maxRanges {
			continue
		}
		r[n] = [2]uintptr{s, e}
		n++
	}
	return r
}

// trim gives the memory back but for the stack that it runs on.
//
//go:nosplit
//go:norace
func trim(p *plan) {
	here := ptr(unsafe.Pointer(&p)) // a parameter: on this stack
	low, high := (here-keepStack)&^pageMask, (here+keepStack)&^pageMask
	for i := 0; i < maxRanges && p.ranges[i][1] != 0; i++ {
		start, end := p.ranges[i][0], p.ranges[i][1]
		if start < low && low < end {
			discard(start, low)
		}
		if start < high && high < end {
			discard(high, end)
		}
		if end <= low || high <= start {
			discard(start, end)
		}
	}
}

//go:nosplit
//go:norace
func discard(start, end uintptr) {
	syscall.RawSyscall(unix.SYS_MADVISE, start, end-start, unix.MADV_DONTNEED)
}
