package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// monotonic is the clock that the probe reads. Namespaces of time are not used, so containers see the same.
func monotonic() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err) // it cannot fail on Linux
	}
	return time.Duration(t.Nano())
}

func v2() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return err == nil
}

// accounting is the directory of a group below ours, in the hierarchy that counts CPU time.
func (b *bench) accounting(group string) string {
	if v2() {
		return filepath.Join("/sys/fs/cgroup", b.groups, group)
	}
	return filepath.Join("/sys/fs/cgroup/cpuacct", b.groups, group)
}

// inGroup runs start on a thread of the group, so that what it forks is counted there from the first instruction, and
// that on a busy machine ours and the peers get equal shares. On v1 the thread moves, and ends with the function; v2 moves
// whole processes, so there it is the bench that goes and comes back.
func (b *bench) inGroup(group string, start func() error) error {
	dir := b.accounting(group)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if v2() {
		home := filepath.Join("/sys/fs/cgroup", b.groups, "bench")
		if err := os.MkdirAll(home, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0); err != nil {
			return err
		}
		defer os.WriteFile(filepath.Join(home, "cgroup.procs"), []byte("0"), 0)
		return start()
	}
	shares := filepath.Join("/sys/fs/cgroup/cpu", b.groups, group)
	if err := os.MkdirAll(shares, 0o755); err != nil {
		return err
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends here
		err := errors.Join(
			os.WriteFile(filepath.Join(dir, "tasks"), []byte("0"), 0),
			os.WriteFile(filepath.Join(shares, "tasks"), []byte("0"), 0))
		if err == nil {
			err = start()
		}
		done <- err
	}()
	return <-done
}

// cpu is what a group below ours and all below it have used, those that ended included.
func (b *bench) cpu(group string) (time.Duration, error) {
	if v2() {
		text, err := os.ReadFile(filepath.Join(b.accounting(group), "cpu.stat"))
		if err != nil {
			return 0, err
		}
		var usec int64
		_, err = fmt.Sscanf(string(text), "usage_usec %d", &usec)
		return time.Duration(usec) * time.Microsecond, err
	}
	text, err := os.ReadFile(filepath.Join(b.accounting(group), "cpuacct.usage"))
	if err != nil {
		return 0, err
	}
	ns, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return time.Duration(ns), err
}

// processCPU is what the living threads of a process have used.
func processCPU(pid int) (time.Duration, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("process %d is not there: %w", pid, os.ErrNotExist)
	}
	var sum time.Duration
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return 0, err
		}
		var ns int64
		if _, err := fmt.Sscan(string(text), &ns); err != nil {
			return 0, fmt.Errorf("%s: %w", f, err)
		}
		sum += time.Duration(ns)
	}
	return sum, nil
}

// until asks for at most ten seconds.
func until(what string, ready func() bool) error {
	for begin := time.Now(); time.Since(begin) < 10*time.Second; time.Sleep(2 * time.Millisecond) {
		if ready() {
			return nil
		}
	}
	return fmt.Errorf("after 10 s still not: %s", what)
}
