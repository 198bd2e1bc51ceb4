package cgroup

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/cgroups/v3/cgroup1"
	"github.com/containerd/cgroups/v3/cgroup2"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

const (
	dirMode   = 0o755
	hugepages = "/sys/kernel/mm/hugepages" // one directory for each size that the kernel has
)

// Manager serves the Cgroups port for one node. It keeps no state beside the node's layout: a group is found from its
// path alone, so any number of managers may be at work, each on groups of its own.
type Manager struct {
	node    Node
	observe step.Observer
	units   units // nil: nothing is systemd's
}

// New returns a manager. observe sees the steps of Create and Remove; it may be nil.
func New(n Node, observe step.Observer) *Manager { return &Manager{node: n, observe: observe} }

// Node is the layout that the manager was made for.
func (m *Manager) Node() Node { return m.node }

// Check tells whether Create would take path and r, as far as that shows without asking the kernel.
func (m *Manager) Check(path string, r *spec.Resources) error {
	if err := checkPath(path); err != nil {
		return err
	}
	return CheckResources(m.node.Mode, r)
}

// Create makes the pod's group with its limits in every hierarchy, and the parents that are missing, without limits.
// A group that is there already gets the limits. On v2 the group hands its controllers on: no process may enter it
// itself, only its children. InvalidArgument: the request, or the kernel's own EINVAL for a value of it.
func (m *Manager) Create(ctx context.Context, path string, r *spec.Resources) error {
	if err := m.Check(path, r); err != nil {
		return err
	}
	return m.flow(path, r).Run(ctx)
}

// flow is the one table of Create, which runs it, and Remove, which tears it down: only path matters there. Parents and
// what is handed to children need no undo: the first stay, the second goes with the group.
func (m *Manager) flow(path string, r *spec.Resources) step.Flow {
	if m.unit(path) {
		return m.unitFlow(path, r)
	}
	stays := func(context.Context) error { return nil }
	group := step.Step{Name: "group", Do: func(context.Context) error { return m.group(path, r) },
		Undo: func(ctx context.Context) error { return m.removeTrees(ctx, m.v1Trees(path)) }}
	bare := step.Step{Name: "unified group", Do: func(context.Context) error { return m.bare(path, r) },
		Undo: func(ctx context.Context) error {
			return m.removeTrees(ctx, []string{filepath.Join(m.node.Unified, path)})
		}}
	processes := step.Step{Name: "processes", Undo: func(ctx context.Context) error { return m.Kill(ctx, path) }}

	f := step.Flow{Name: "cgroup", ID: path, Observe: m.observe}
	switch m.node.Mode {
	case Unified:
		group.Undo = bare.Undo
		f.Steps = []step.Step{
			{Name: "parents", Do: func(context.Context) error { return m.parents(path) }, Undo: stays},
			group,
			{Name: "children", Do: func(context.Context) error { return m.handOn(path) }, Undo: stays},
			processes}
	case Hybrid:
		f.Steps = []step.Step{group, bare, processes}
	default:
		f.Steps = []step.Step{group, processes}
	}
	return f
}

// CreateLeaf makes a group without limits that processes may enter, and its parents.
func (m *Manager) CreateLeaf(ctx context.Context, path string) error {
	if err := checkPath(path); err != nil {
		return err
	}
	if m.unit(path) { // systemd ends a scope without a process: Join makes it
		return nil
	}
	if m.node.Mode == Unified {
		if err := m.parents(path); err != nil {
			return err
		}
	}
	if err := m.group(path, nil); err != nil {
		return err
	}
	if m.node.Mode == Hybrid {
		return m.bare(path, nil)
	}
	return nil
}

// Join moves the process into the group at path, in every hierarchy. It is not atomic: the caller holds the process
// back until it returns.
func (m *Manager) Join(path string, pid int) error {
	if err := checkPath(path); err != nil {
		return err
	}
	if m.unit(path) {
		return unitError("make", path, m.units.start(path, pid))
	}
	for _, dir := range m.node.trees(path) {
		if err := join(dir, pid); err != nil {
			return spec.Errorf(kindOf(err), "process %d into cgroup %s: %w", pid, dir, err)
		}
	}
	return nil
}

// join retries EINVAL: the kernel refuses a task that is not yet fully there (TASK_NEW) for a moment.
func join(dir string, pid int) error {
	for i := 0; ; i++ {
		err := write(filepath.Join(dir, "cgroup.procs"), strconv.Itoa(pid))
		if !errors.Is(err, unix.EINVAL) || i == 5 {
			return err
		}
		time.Sleep(time.Millisecond << i)
	}
}

// group makes the group itself, where the library knows how, and then whatever hierarchy it does not know.
func (m *Manager) group(path string, r *spec.Resources) error {
	if m.node.Mode == Unified {
		res, rest := unified(r)
		if _, err := cgroup2.NewManager(m.node.Unified, path, res); err != nil {
			return spec.Errorf(kindOf(err), "cgroup %q: %w", path, err)
		}
		return writeAll(filepath.Join(m.node.Unified, path), rest)
	}
	if err := m.missing(r); err != nil {
		return err
	}
	if err := m.accountTrees(path); err != nil {
		return err
	}
	_, err := cgroup1.New(cgroup1.StaticPath(path), legacy(r), cgroup1.WithHierarchy(m.subsystems),
		func(c *cgroup1.InitConfig) error { c.InitCheck = cgroup1.AllowAny; return nil })
	if err != nil {
		return spec.Errorf(kindOf(err), "cgroup %q: %w", path, err)
	}
	for _, h := range m.node.V1 {
		if err := os.MkdirAll(filepath.Join(h.Dir, path), dirMode); err != nil {
			return spec.Errorf(kindOf(err), "cgroup %q: %w", path, err)
		}
	}
	return nil
}

// subsystems are the library's controllers that this node has on v1.
func (m *Manager) subsystems() ([]cgroup1.Subsystem, error) {
	root := m.node.Root
	var out []cgroup1.Subsystem
	for _, s := range []cgroup1.Subsystem{cgroup1.NewCpu(root), cgroup1.NewCpuacct(root), cgroup1.NewCpuset(root),
		cgroup1.NewMemory(root), cgroup1.NewPids(root), cgroup1.NewFreezer(root)} {
		if m.node.has(string(s.Name())) {
			out = append(out, s)
		}
	}
	if h, err := cgroup1.NewHugetlb(root); err == nil && m.node.has("hugetlb") {
		out = append(out, h)
	}
	return out, nil
}

// missing refuses a limit that this v1 node has no controller for, instead of leaving it out.
func (m *Manager) missing(r *spec.Resources) error {
	if r == nil {
		return nil
	}
	for _, a := range []struct {
		limit, controller string
		asked             bool
	}{
		{"CPU limit", "cpu", r.CPUQuota != 0 || r.CPUPeriod != 0},
		{"CPU shares", "cpu", r.CPUShares != 0},
		{"CPU set", "cpuset", r.CPUSetCPUs != "" || r.CPUSetMems != ""},
		{"memory limit", "memory", r.MemoryLimit != 0 || r.MemorySwap != 0},
		{"limit on processes", "pids", r.Unified["pids.max"] != ""},
	} {
		if a.asked && !m.node.has(a.controller) {
			return spec.Errorf(errdefs.ErrFailedPrecondition, "%s: this kernel has no %s controller", a.limit, a.controller)
		}
	}
	if dir, _ := m.node.dir("memory"); r.MemorySwap != 0 && !exists(filepath.Join(dir, "memory.memsw.limit_in_bytes")) {
		return spec.Errorf(errdefs.ErrFailedPrecondition,
			"limit on memory and swap: this kernel does not count swap (boot it with swapaccount=1)")
	}
	if len(r.HugepageLimits) > 0 && (!m.node.has("hugetlb") && m.node.Unified == "" || !exists(hugepages)) {
		return spec.Errorf(errdefs.ErrFailedPrecondition, "huge page limit: this kernel has no hugetlb controller, or no huge pages")
	}
	return nil
}

// accountTrees makes every new level of the memory hierarchy count its children: before Linux 5.11 that is a choice,
// and it cannot be made once a group has children.
func (m *Manager) accountTrees(path string) error {
	dir, ok := m.node.dir("memory")
	if !ok {
		return nil
	}
	for _, c := range strings.Split(path[1:], "/") {
		dir = filepath.Join(dir, c)
		err := os.Mkdir(dir, dirMode)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return spec.Errorf(kindOf(err), "cgroup %q: %w", path, err)
		}
		file := filepath.Join(dir, "memory.use_hierarchy")
		if b, err := os.ReadFile(file); err != nil || strings.TrimSpace(string(b)) != "0" {
			continue
		}
		if err := write(file, "1"); err != nil {
			return spec.Errorf(kindOf(err), "cgroup %q: %w", path, err)
		}
	}
	return nil
}

// writeAll writes limits that the library does not know.
func writeAll(dir string, s []setting) error {
	for _, w := range s {
		for _, line := range strings.Split(strings.TrimSuffix(w.value, "\n"), "\n") {
			err := write(filepath.Join(dir, w.file), line)
			if errors.Is(err, fs.ErrNotExist) {
				return spec.Invalidf("cgroup limit %s: this node has no such file", w.file)
			}
			if err != nil {
				return spec.Errorf(kindOf(err), "cgroup limit %s = %q: %w", w.file, clip(line), err)
			}
		}
	}
	return nil
}

// write never makes a file: what is absent is an error.
func write(file, value string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// kindOf says whose fault the kernel's answer is: a value that it refuses is the request's.
func kindOf(err error) error {
	switch {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ERANGE), errors.Is(err, unix.ENODEV):
		return errdefs.ErrInvalidArgument
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EAGAIN):
		return errdefs.ErrResourceExhausted
	case errors.Is(err, fs.ErrNotExist):
		return errdefs.ErrNotFound
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EOPNOTSUPP):
		return errdefs.ErrFailedPrecondition
	}
	return errdefs.ErrInternal
}
