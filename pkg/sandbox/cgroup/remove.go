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

// busyFor bounds the wait for a group that is empty but not yet released by the kernel.
const busyFor = 2 * time.Second

// Remove kills what is in the tree at path, waits until it is empty, and removes it in every hierarchy, leaves first.
// Parents stay. What is not there is done.
func (m *Manager) Remove(ctx context.Context, path string) error {
	if err := checkPath(path); err != nil {
		return err
	}
	return m.flow(path, nil).Teardown(ctx)
}

func (m *Manager) v1Trees(path string) (out []string) {
	for _, h := range m.node.V1 {
		out = append(out, filepath.Join(h.Dir, path))
	}
	return out
}

func (m *Manager) removeTrees(ctx context.Context, dirs []string) error {
	for _, dir := range dirs {
		if err := removeTree(ctx, dir); err != nil {
			return err
		}
	}
	return nil
}

// RemoveEmpty removes the group at path where nothing is in or below it, and leaves it where something is: for the
// parents that a daemon made, when it is taken off a node.
func (m *Manager) RemoveEmpty(path string) error {
	if err := checkPath(path); err != nil {
		return err
	}
	for _, dir := range m.node.trees(path) {
		err := unix.Rmdir(dir)
		if err != nil && !errors.Is(err, unix.EBUSY) && !errors.Is(err, fs.ErrNotExist) {
			return spec.Errorf(errdefs.ErrInternal, "remove cgroup %s: %w", dir, err)
		}
	}
	return nil
}

func removeTree(ctx context.Context, dir string) error {
	var groups []string
	if err := walk(dir, func(g string) error { groups = append(groups, g); return nil }); err != nil {
		return spec.Errorf(errdefs.ErrInternal, "remove cgroup %s: %w", dir, err)
	}
	for _, g := range slices.Backward(groups) {
		if err := rmdir(ctx, g); err != nil {
			return err
		}
	}
	return nil
}

func rmdir(ctx context.Context, dir string) error {
	pause, until := firstPause, time.Now().Add(busyFor)
	for {
		err := unix.Rmdir(dir)
		switch {
		case err == nil, errors.Is(err, fs.ErrNotExist):
			return nil
		case !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EINTR):
			return spec.Errorf(errdefs.ErrInternal, "remove cgroup %s: %w", dir, err)
		case time.Now().After(until):
			return spec.Errorf(errdefs.ErrUnavailable, "remove cgroup %s: it is still in use: %w", dir, err)
		}
		select {
		case <-ctx.Done():
			return spec.Errorf(endOf(ctx), "remove cgroup %s: it is still in use: %w", dir, context.Cause(ctx))
		case <-time.After(pause):
			pause = min(pause*3/2, maxPause)
		}
	}
}

// Leaks names the groups directly below root that belong to nobody: neither the group's name nor what follows its last
// '-' is in live. The answer is sorted and names each group once, with the hierarchies that it is in.
func (m *Manager) Leaks(root string, live map[string]bool) ([]string, error) {
	if err := checkPath(root); err != nil {
		return nil, err
	}
	in := map[string][]string{}
	for _, dir := range m.node.trees(root) {
		entries, err := os.ReadDir(dir)
		if ignoreGone(err) != nil {
			return nil, spec.Errorf(errdefs.ErrInternal, "groups below %s: %w", dir, err)
		}
		for _, e := range entries {
			name := e.Name()
			if e.IsDir() && !live[name] && !live[name[strings.LastIndexByte(name, '-')+1:]] && !live[spec.GroupID(name)] {
				hierarchy := filepath.Base(strings.TrimSuffix(dir, root))
				in[filepath.Join(root, name)] = append(in[filepath.Join(root, name)], hierarchy)
			}
		}
	}
	out := make([]string, 0, len(in))
	for path, hierarchies := range in {
		out = append(out, path+" ("+strings.Join(hierarchies, ", ")+")")
	}
	slices.Sort(out)
	return out, nil
}
