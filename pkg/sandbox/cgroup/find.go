package cgroup

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Find returns the paths of all groups with that base name, and of the units that are named after it (spec.GroupID), in
// any hierarchy, sorted: of a record that cannot be read,
// the id is all that is known. It walks every group of the node, so it is for recovery alone.
func (m *Manager) Find(ctx context.Context, name string) ([]string, error) {
	if name == "" || strings.ContainsAny(name, "/\x00") {
		return nil, spec.Invalidf("%.80q is not the name of a cgroup", name)
	}
	var found []string
	for _, root := range m.node.trees("/") {
		err := filepath.WalkDir(root, func(dir string, e fs.DirEntry, err error) error {
			if err != nil || !e.IsDir() { // a group may vanish under the walk
				return ignoreGone(err)
			}
			if e.Name() != name && spec.GroupID(e.Name()) != name {
				return ctx.Err()
			}
			found = append(found, "/"+strings.TrimPrefix(strings.TrimPrefix(dir, strings.TrimSuffix(root, "/")), "/"))
			return fs.SkipDir
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(found)
	return slices.Compact(found), nil
}

// Below returns the names of the groups directly below path, in any hierarchy, sorted. Of a group that is not there,
// there are none.
func (m *Manager) Below(path string) ([]string, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	var names []string
	for _, dir := range m.node.trees(path) {
		entries, err := os.ReadDir(dir)
		if ignoreGone(err) != nil {
			return nil, spec.Errorf(errdefs.ErrInternal, "groups below %s: %w", dir, err)
		}
		for _, e := range entries {
			if e.IsDir() {
				names = append(names, e.Name())
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
