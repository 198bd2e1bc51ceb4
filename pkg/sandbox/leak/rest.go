package leak

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/runtimed/runtimed/pkg/sandbox/network"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// networks asks the network's own check for links, rules and addresses.
func networks(ctx context.Context, o Options, known records) ([]Leak, error) {
	live := map[string]spec.NetworkResult{}
	for id, s := range known.sandboxes {
		switch {
		case !s.up:
		case s.rec.Network != nil:
			live[id] = *s.rec.Network
		default: // it is being made, or cannot be read: what it has is its own
			live[id] = spec.NetworkResult{}
		}
	}
	found, err := network.Leaks(ctx, o.Network, live)
	var out []Leak
	for _, what := range found {
		out = append(out, Leak{Network, what, "start the daemon, which removes it"})
	}
	return out, err
}

// groups finds groups below this daemon's root: of pods, of containers in a pod, and others.
func groups(_ context.Context, o Options, known records) ([]Leak, error) {
	recorded := map[string]bool{}
	children := map[string]map[string]bool{}
	for id, s := range known.sandboxes {
		recorded[id] = true
		if s.unreadable {
			continue
		}
		children[id] = map[string]bool{"init": true}
		for _, c := range s.rec.Containers {
			children[id][c.Spec.ID] = true
		}
	}
	for id, c := range known.containers { // an unreadable one keeps its group
		if children[c.sandbox] != nil {
			children[c.sandbox][id] = true
		}
	}
	var out []Leak
	var failed []error
	check := func(path string, live map[string]bool) {
		found, err := o.Cgroups.Leaks(path, live)
		if err != nil {
			failed = append(failed, err)
		}
		for _, what := range found {
			out = append(out, Leak{Cgroup, "group " + what + " is of nothing that is recorded", "start the daemon, which removes it; or rmdir it in each hierarchy, children first"})
		}
	}
	check(o.CgroupRoot, map[string]bool{"pods": true, "shims": true})
	check(o.CgroupRoot+"/pods", recorded)
	check(o.CgroupRoot+"/shims", nil)
	for id, of := range children {
		if path := known.sandboxes[id].rec.Spec.CgroupPath; path != "" {
			check(path, of)
		}
	}
	return out, errors.Join(failed...)
}

// directories finds what is left in the daemon's directories.
func directories(_ context.Context, o Options, known records) ([]Leak, error) {
	live := known.live()
	sockets := map[string]bool{}
	for id, c := range known.containers {
		if c.up && len(id) >= 20 {
			sockets[filepath.Base(o.Layout.ShimSocket(id))] = true
		}
	}
	var out []Leak
	var failed []error
	for _, d := range []struct {
		path  string
		why   string
		owned func(name string) bool
	}{
		{filepath.Join(o.Layout.Root, "trash"), "a record that was being removed", func(string) bool { return false }},
		{filepath.Join(o.Layout.Run, "rootfs"), "the root of a container that does not run", func(id string) bool { return known.containers[id].up }},
		{filepath.Join(o.Layout.Run, "shims"), "the socket of a shim whose container does not run", func(name string) bool { return sockets[name] }},
		{filepath.Join(o.Layout.Run, "ns"), "pins of a sandbox that does not run", func(id string) bool { return live[id] }},
		{filepath.Join(o.Layout.Run, "shm"), "/dev/shm of a sandbox that does not run", func(id string) bool { return live[id] }},
	} {
		entries, err := os.ReadDir(d.path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = append(failed, err)
		}
		for _, e := range entries {
			if !d.owned(e.Name()) {
				path := filepath.Join(d.path, e.Name())
				out = append(out, Leak{Directory, path + " is " + d.why, "start the daemon, which removes it; or rm -r " + path})
			}
		}
	}
	return out, errors.Join(failed...)
}

// span is a range of the node's ids that a sandbox holds.
type span struct {
	start, end uint64 // end is behind the last
	sandbox    string
}

func (r records) spans() []span {
	var out []span
	for id, s := range r.sandboxes {
		for _, m := range s.rec.Spec.Profile.UIDs {
			out = append(out, span{uint64(m.HostID), uint64(m.HostID) + uint64(m.Size), id})
		}
	}
	slices.SortFunc(out, func(a, b span) int {
		if a.start != b.start {
			return int(int64(a.start) - int64(b.start))
		}
		return strings.Compare(a.sandbox, b.sandbox)
	})
	return out
}

// holds tells whether a sandbox holds the id. While a record cannot be read, any id may be its.
func (r records) holds(id uint32) bool {
	for _, s := range r.sandboxes {
		if s.unreadable {
			return true
		}
	}
	return slices.ContainsFunc(r.spans(), func(s span) bool { return uint64(id) >= s.start && uint64(id) < s.end })
}

// ranges finds ids that two sandboxes hold. Pods that brought their own mappings (the kubelet's) may share them.
func ranges(_ context.Context, o Options, known records) ([]Leak, error) {
	var out []Leak
	all := known.spans()
	for i, a := range all {
		for _, b := range all[i+1:] {
			if b.start >= a.end {
				break
			}
			if a.sandbox == b.sandbox || !o.Pool.holds(uint32(a.start)) && !o.Pool.holds(uint32(b.start)) {
				continue
			}
			out = append(out, Leak{Range, fmt.Sprintf("sandboxes %s and %s both hold the ids from %d to %d", short(a.sandbox), short(b.sandbox),
				b.start, min(a.end, b.end)-1), "remove one of the two pods: their users are the same to the node"})
		}
	}
	return out, nil
}
