package cgroup

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

const (
	firstPause = 100 * time.Microsecond
	maxPause   = 10 * time.Millisecond
	// patience is the number of rounds before a v1 tree is frozen, so that nothing in it can fork faster than it is
	// killed.
	patience = 3
)

// Kill kills every process in the tree at path, in every hierarchy, and returns when it is empty (a zombie that waits
// for its parent does not count). A tree that is not there is empty. It works where the tree, or a part of it, is frozen.
// Without a deadline in ctx it waits as long as a process is stuck in the kernel; when ctx ends it names what is left,
// as DeadlineExceeded or Canceled.
func (m *Manager) Kill(ctx context.Context, path string) error {
	if err := checkPath(path); err != nil {
		return err
	}
	trees := m.node.trees(path)
	pause := firstPause
	for round := 0; ; round++ {
		left, err := m.killRound(trees, path, round >= patience)
		if err != nil {
			return spec.Errorf(errdefs.ErrInternal, "kill cgroup %q: %w", path, err)
		}
		if len(left) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return spec.Errorf(endOf(ctx), "cgroup %q still holds processes %s after SIGKILL: %w", path, describe(left),
				context.Cause(ctx))
		case <-time.After(pause):
			pause = min(pause*3/2, maxPause)
		}
	}
}

// endOf is the kind for a context that ended: context's own errors are kinds to errdefs.
func endOf(ctx context.Context) error { return ctx.Err() }

// killRound does what can be done at once and returns the processes that it found before.
func (m *Manager) killRound(trees []string, path string, freeze bool) ([]int, error) {
	var left []int
	for _, dir := range trees {
		pids, err := procs(dir)
		if err != nil {
			return nil, err
		}
		if len(pids) == 0 {
			continue
		}
		left = append(left, pids...)
		// The whole tree at once, forks in flight included (Linux 5.14).
		if write(filepath.Join(dir, "cgroup.kill"), "1") == nil {
			continue
		}
		if freezer, ok := m.node.dir("freezer"); ok && freeze {
			// Not an error where it fails: it only makes the kill faster than a fork.
			write(filepath.Join(freezer, path, "freezer.state"), "FROZEN")
			if pids, err = procs(dir); err != nil {
				return nil, err
			}
		}
		for _, pid := range pids {
			killMember(pid, path)
		}
	}
	if len(left) > 0 {
		m.thaw(path)
	}
	slices.Sort(left)
	return slices.Compact(left), nil
}

// thaw lets every frozen v1 group of the tree run: SIGKILL acts on a task there only after that.
func (m *Manager) thaw(path string) {
	dir, ok := m.node.dir("freezer")
	if !ok {
		return
	}
	walk(filepath.Join(dir, path), func(group string) error {
		file := filepath.Join(group, "freezer.state")
		if b, err := os.ReadFile(file); err == nil && !bytes.HasPrefix(b, []byte("THAWED")) {
			write(file, "THAWED")
		}
		return nil
	})
}

// killMember sends SIGKILL to pid if it is, behind an open pidfd, still in the tree: a pid that was read from a file may
// be another process's by now.
func killMember(pid int, path string) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err == nil && memberOf(b, path) {
		unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	}
}

// memberOf reads /proc/<pid>/cgroup (cgroups(7)): "id:controllers:path" in each line.
func memberOf(b []byte, path string) bool {
	for line := range bytes.Lines(b) {
		f := bytes.SplitN(bytes.TrimSuffix(line, []byte("\n")), []byte(":"), 3)
		if len(f) == 3 && (string(f[2]) == path || strings.HasPrefix(string(f[2]), path+"/")) {
			return true
		}
	}
	return false
}

// procs are the processes of the tree in one hierarchy.
func procs(dir string) ([]int, error) {
	var out []int
	err := walk(dir, func(group string) error {
		b, err := os.ReadFile(filepath.Join(group, "cgroup.procs"))
		if errors.Is(err, unix.EOPNOTSUPP) { // a threaded group: its processes are shown further up
			return nil
		}
		if err != nil {
			return err
		}
		for _, f := range strings.Fields(string(b)) {
			if pid, err := strconv.Atoi(f); err == nil {
				out = append(out, pid)
			}
		}
		return nil
	})
	return out, err
}

// walk visits the groups of a tree, parents first. Groups that are not there, or go meanwhile, are passed over.
func walk(dir string, visit func(string) error) error {
	if err := visit(dir); err != nil {
		return ignoreGone(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return ignoreGone(err)
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := walk(filepath.Join(dir, e.Name()), visit); err != nil {
				return err
			}
		}
	}
	return nil
}

// ignoreGone: reading a group that is being removed gives ENODEV.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// describe names processes with their state, such as "12 (D)": one in D waits in the kernel.
func describe(pids []int) string {
	var b strings.Builder
	for i, pid := range pids {
		if i == 8 {
			b.WriteString(" and " + strconv.Itoa(len(pids)-i) + " more")
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(strconv.Itoa(pid))
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if j := bytes.LastIndexByte(stat, ')'); err == nil && j >= 0 && len(stat) > j+2 {
			b.WriteString(" (" + string(stat[j+2]) + ")")
		}
	}
	return b.String()
}
