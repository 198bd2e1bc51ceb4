package supervise

import (
	"slices"
	"syscall"
)

const (
	killWithin = 1000 // ms, for processes that are killed one by one
	killBatch  = 256
)

// killGroup kills what is left in the container's group: by its cgroup.kill files, or else process by process until
// none is left, for a second at most (a process in an uninterruptible sleep stays; the group's removal waits for it).
func killGroup(killFiles, procsFiles []string) {
	killed := false
	for _, f := range killFiles {
		if writeFile(f, "1") == nil {
			killed = true
		}
	}
	if killed || len(procsFiles) == 0 {
		return
	}
	buf := make([]byte, 64<<10)
	for end := clock(clockMonotonic) + killWithin*1e6; clock(clockMonotonic) < end; pause(2) {
		left := 0
		for _, f := range procsFiles {
			left += killProcs(f, buf)
		}
		if left == 0 {
			return
		}
	}
}

// killProcs kills the processes that a cgroup.procs file lists, and returns how many it saw. A pid can be given to
// another process between reading and killing, so it is bound to a descriptor first, and then killed only if the file
// still lists it: either it is the same process, or another one of this group.
func killProcs(file string, buf []byte) int {
	pids := readProcs(file, buf)
	for batch := range slices.Chunk(pids, killBatch) {
		var fds [killBatch]int
		for i, pid := range batch {
			fds[i], _ = pidfdOpen(pid)
		}
		still := readProcs(file, buf)
		for i, pid := range batch {
			if fds[i] < 0 {
				continue
			}
			if slices.Contains(still, pid) {
				pidfdKill(fds[i])
			}
			syscall.Close(fds[i])
		}
	}
	return len(pids)
}

func readProcs(file string, buf []byte) []int {
	text, err := readFile(file, buf)
	if err != nil {
		return nil
	}
	return parseProcs(text, syscall.Getpid())
}

// parseProcs reads a cgroup.procs file. A 0 is a process that this PID namespace does not see. A last line without its
// newline is left out: the number may be cut.
func parseProcs(text []byte, self int) []int {
	var pids []int
	n := 0
	for _, c := range text {
		switch {
		case c >= '0' && c <= '9' && n < 1<<31:
			n = n*10 + int(c-'0')
		case c == '\n':
			if n > 0 && n < 1<<31 && n != self {
				pids = append(pids, n)
			}
			n = 0
		default:
			return pids
		}
	}
	return pids
}

// oomKills reads the counter in a line "oom_kill N"; ok is false where there is none.
func oomKills(file string) (n uint64, ok bool) {
	if file == "" {
		return 0, false
	}
	var buf [4096]byte
	text, err := readFile(file, buf[:])
	if err != nil {
		return 0, false
	}
	return parseOOM(text)
}

func parseOOM(text []byte) (uint64, bool) {
	const key = "oom_kill "
	for len(text) > 0 {
		end := slices.Index(text, '\n')
		if end < 0 {
			return 0, false
		}
		line := text[:end]
		text = text[end+1:]
		if len(line) <= len(key) || string(line[:len(key)]) != key {
			continue
		}
		n := uint64(0)
		for _, c := range line[len(key):] {
			if c < '0' || c > '9' || n > 1<<60 {
				return 0, false
			}
			n = n*10 + uint64(c-'0')
		}
		return n, true
	}
	return 0, false
}
