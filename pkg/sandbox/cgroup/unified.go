package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// bare makes the group in the unified half of a hybrid node: it gives cgroup.kill and a cgroup id. Its controllers are
// left alone, but for hugetlb when a limit needs it and v1 does not have it.
func (m *Manager) bare(path string, r *spec.Resources) error {
	dir := filepath.Join(m.node.Unified, path)
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return spec.Errorf(kindOf(err), "cgroup %q: %w", path, err)
	}
	if r == nil || len(r.HugepageLimits) == 0 || m.node.has("hugetlb") {
		return nil
	}
	if err := enable(m.node.Unified, filepath.Dir(path), []string{"hugetlb"}, []string{"hugetlb"}); err != nil {
		return err
	}
	var s []setting
	for _, h := range r.HugepageLimits {
		s = append(s, setting{"hugetlb." + h.PageSize + ".max", strconv.FormatUint(h.Limit, 10)})
	}
	return writeAll(dir, s)
}

// parents makes the groups above path and hands the node's controllers down to it.
func (m *Manager) parents(path string) error {
	if err := os.MkdirAll(filepath.Join(m.node.Unified, filepath.Dir(path)), dirMode); err != nil {
		return spec.Errorf(kindOf(err), "parents of cgroup %q: %w", path, err)
	}
	return enable(m.node.Unified, filepath.Dir(path), v2controllers, required)
}

// handOn makes path an inner group.
func (m *Manager) handOn(path string) error {
	return enable(m.node.Unified, path, v2controllers, required)
}

// enable hands controllers to the children of path and of every group above it, down from the mount point. What a level
// was not given, or cannot hand on, is passed over, unless it is in must and the mount point has it.
func enable(mount, path string, controllers, must []string) error {
	levels := []string{mount}
	for i, c := range path {
		if c == '/' && i > 0 {
			levels = append(levels, filepath.Join(mount, path[:i]))
		}
	}
	if path != "/" {
		levels = append(levels, filepath.Join(mount, path))
	}
	for _, dir := range levels {
		has, err := words(filepath.Join(dir, "cgroup.controllers"))
		if err != nil {
			return spec.Errorf(kindOf(err), "controllers of cgroup %s: %w", dir, err)
		}
		file := filepath.Join(dir, "cgroup.subtree_control")
		on, err := words(file)
		if err != nil {
			return spec.Errorf(kindOf(err), "controllers of cgroup %s: %w", dir, err)
		}
		for _, c := range controllers {
			if !slices.Contains(has, c) || slices.Contains(on, c) {
				continue
			}
			err := write(file, "+"+c)
			if errors.Is(err, unix.EBUSY) && slices.Contains(must, c) {
				return spec.Errorf(errdefs.ErrFailedPrecondition,
					"cgroup %s holds processes itself, so it cannot hand %s to groups below it: move them into a child", dir, c)
			}
			if err != nil && slices.Contains(must, c) {
				return spec.Errorf(kindOf(err), "controller %s for the children of cgroup %s: %w", c, dir, err)
			}
		}
	}
	return nil
}

func words(file string) ([]string, error) {
	b, err := os.ReadFile(file)
	return strings.Fields(string(b)), err
}
