package cgroup

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Change writes what PlanUpdate has planned, in its order, and stops at the first write that the kernel refuses: the
// caller reverts then. FailedPrecondition: the container needs more than it would have.
func (m *Manager) Change(ctx context.Context, path string, c spec.LimitChange) error {
	for _, w := range c.Writes {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if err := m.put(path, w.File, w.Old, w.New); err != nil {
			return changeError(w, err)
		}
	}
	return m.tellUnit(ctx, path, c.After)
}

// tellUnit gives systemd the limits of a unit, behind the files, which refuse what cannot be: a daemon-reload would put
// back what systemd knows.
func (m *Manager) tellUnit(ctx context.Context, path string, r spec.Resources) error {
	if !m.unit(path) || !exists(filepath.Join(m.node.Unified, path)) {
		return nil
	}
	if r.MemorySwap == 0 && r.MemoryLimit > 0 {
		r.MemorySwap = r.MemoryLimit // no room for swap, as at creation
	}
	return unitError("limit", path, await(ctx, func() error { return m.units.set(path, unitResources(&r)) }))
}

// before are the limits before a change, with a word for each that the change was the first to set.
func before(c spec.LimitChange) spec.Resources {
	r := c.Before
	for _, f := range []struct {
		was   *int64
		is    int64
		never int64
	}{
		{&r.MemoryLimit, c.After.MemoryLimit, -1}, {&r.MemorySwap, c.After.MemorySwap, -1},
		{&r.CPUQuota, c.After.CPUQuota, -1}, {&r.CPUShares, c.After.CPUShares, 1024},
	} {
		if *f.was == 0 && f.is != 0 {
			*f.was = f.never
		}
	}
	return r
}

// Revert puts back what was there before Change, however far that got, in the reverse order. A group that is gone is
// reverted.
func (m *Manager) Revert(ctx context.Context, path string, c spec.LimitChange) error {
	failed := m.tellUnit(ctx, path, before(c)) // systemd writes files too: what they held comes last
	for _, w := range slices.Backward(c.Writes) {
		err := m.put(path, w.File, w.New, w.Old)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENODEV) {
			failed = errors.Join(failed, changeError(spec.LimitWrite{File: w.File, New: w.Old}, err))
		}
	}
	return failed
}

func (m *Manager) put(path, file, old, value string) error {
	switch {
	case file == oomScore:
		return m.putScore(path, old, value)
	case filepath.Base(file) == "memory.max":
		if err := makeRoom(filepath.Dir(file), value); err != nil {
			return err
		}
	}
	return write(file, value+"\n")
}

// makeRoom: a v2 limit below what is used kills until it fits. What can be given back is given back first; a limit that
// is still too low then is refused. v1 refuses by itself.
func makeRoom(dir, value string) error {
	limit, err := parseLimit(value)
	if err != nil || limit < 0 {
		return err
	}
	used, err := usedIn(dir)
	if err != nil || used <= limit {
		return err
	}
	reclaim(dir, used-limit)
	if used, err = usedIn(dir); err == nil && used > limit {
		err = spec.Preconditionf("the container uses %d bytes of memory: a limit of %d would kill it", used, limit)
	}
	return err
}

// reclaimFor bounds the wait for memory to be given back.
const reclaimFor = 2 * time.Second

// reclaim asks the kernel for memory of a v2 group, best effort. The kernel does not return before it has it or is sure
// that there is none: pages of a program that runs come back as fast as they go, and it was seen to take minutes. The
// write is left to itself then; it ends with the group, or with this process.
func reclaim(dir string, bytes int64) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		write(filepath.Join(dir, "memory.reclaim"), text(bytes))
	}()
	select {
	case <-done:
	case <-time.After(reclaimFor):
	}
}

func usedIn(dir string) (int64, error) {
	b, err := os.ReadFile(filepath.Join(dir, "memory.current"))
	if err != nil {
		return 0, err
	}
	return parseLimit(strings.TrimSpace(string(b)))
}

// putScore sets the badness of every process that has the old one, those that are forked meanwhile included. One that
// has chosen its own keeps it.
func (m *Manager) putScore(path, old, value string) error {
	for range 10 {
		found := false
		for _, pid := range m.members(path) {
			b, err := os.ReadFile(scoreFile(pid))
			if err != nil || strings.TrimSpace(string(b)) != old {
				continue
			}
			err = write(scoreFile(pid), value)
			if errors.Is(err, unix.ESRCH) || errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			found = true
		}
		if !found {
			return nil
		}
	}
	return nil
}

func changeError(w spec.LimitWrite, err error) error {
	kind := spec.KindOf(err)
	switch {
	case kind != nil:
	case errors.Is(err, unix.EBUSY):
		return spec.Errorf(errdefs.ErrFailedPrecondition, "limit %s = %q: the container uses more than that: %w", filepath.Base(w.File), clip(w.New), err)
	case errors.Is(err, fs.ErrPermission) && w.File == oomScore:
		return spec.Errorf(errdefs.ErrFailedPrecondition, "oom_score_adj %s: the runtime may not give a process less than it has: %w", w.New, err)
	case errors.Is(err, fs.ErrPermission): // a cpuset that is not within its parent's, on v1
		kind = errdefs.ErrInvalidArgument
	default:
		kind = kindOf(err)
	}
	return spec.Errorf(kind, "limit %s = %q: %w", filepath.Base(w.File), clip(w.New), err)
}
