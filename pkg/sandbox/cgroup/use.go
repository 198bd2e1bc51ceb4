package cgroup

import (
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

// Use reads what the group and all below it use: processor time, memory, swap and stalls; with detail, also the enforcement
// of a quota, tasks, counts of failures, and the input and output of each block device. A group that is not there, or ends meanwhile, is NotFound.
func (m *Manager) Use(path string, detail bool) (spec.GroupUse, error) {
	if err := checkPath(path); err != nil {
		return spec.GroupUse{}, err
	}
	u := spec.GroupUse{At: time.Now()}
	var err error
	switch {
	case !detail && m.node.Mode == Unified:
		err = m.quickUnified(path, &u)
	case !detail && m.node.has("cpuacct"):
		err = m.quickLegacy(path, &u)
	case m.node.Mode == Unified:
		err = m.useUnified(path, &u)
	default:
		err = m.useLegacy(path, &u)
	}
	// What the libraries read as zero because it went away under them must not be believed.
	if err == nil && !exists(m.countingDir(path)) {
		err = fs.ErrNotExist
	}
	if err != nil {
		return spec.GroupUse{}, useError(path, err)
	}
	return u, nil
}

// CPU reads the group's processor time alone, and when that was.
func (m *Manager) CPU(path string) (used time.Duration, at time.Time, err error) {
	if err := checkPath(path); err != nil {
		return 0, at, err
	}
	at = time.Now()
	if m.node.Mode == Unified {
		used, err = usageOf(filepath.Join(m.node.Unified, path, "cpu.stat"))
	} else {
		used, err = m.legacyUsage(path)
	}
	if err != nil {
		return 0, at, useError(path, err)
	}
	return used, at, nil
}

func (m *Manager) legacyUsage(path string) (time.Duration, error) {
	dir, ok := m.node.dir("cpuacct")
	if !ok {
		return 0, errNoAccounting
	}
	b, err := os.ReadFile(filepath.Join(dir, path, "cpuacct.usage"))
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 63)
	return time.Duration(n), err
}

// usageOf finds the total in a v2 cpu.stat.
func usageOf(file string) (time.Duration, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "usage_usec "); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(rest), 10, 53)
			return time.Duration(n) * time.Microsecond, err
		}
	}
	return 0, errNoAccounting
}

var errNoAccounting = spec.Errorf(errdefs.ErrFailedPrecondition, "this kernel does not count processor time by group")

// Processes lists the processes of the group and of all below it.
func (m *Manager) Processes(path string) ([]int, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	pids, err := processesBelow(m.countingDir(path), nil, 0)
	if err != nil {
		return nil, useError(path, err)
	}
	slices.Sort(pids) // one that moves meanwhile would be seen twice
	return slices.Compact(pids), nil
}

// maxNesting bounds how deep groups within a container's own are followed.
const maxNesting = 32

func processesBelow(dir string, pids []int, depth int) ([]int, error) {
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return nil, err
	}
	for _, word := range strings.Fields(string(b)) {
		if pid, err := strconv.Atoi(word); err == nil {
			pids = append(pids, pid)
		}
	}
	// A directory has two links and one more for each directory in it: most groups have none, and need not be listed.
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil || st.Nlink == 2 || depth == maxNesting {
		return pids, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		more, err := processesBelow(filepath.Join(dir, e.Name()), pids, depth+1)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errGone) {
			continue // it ended
		}
		if err != nil {
			return nil, err
		}
		pids = more
	}
	return pids, nil
}

// countingDir is the group's directory in a hierarchy that counts.
func (m *Manager) countingDir(path string) string {
	if m.node.Mode == Unified {
		return filepath.Join(m.node.Unified, path)
	}
	for _, c := range []string{"cpuacct", "memory", "pids"} {
		if dir, ok := m.node.dir(c); ok {
			return filepath.Join(dir, path)
		}
	}
	return filepath.Join(m.node.Root, path)
}

func useError(path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errGone) {
		return spec.NotFoundf("there is no cgroup %q", path)
	}
	if spec.KindOf(err) != nil {
		return err
	}
	return spec.Errorf(errdefs.ErrUnavailable, "cgroup %q: %w", path, err)
}
