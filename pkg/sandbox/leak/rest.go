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
	"github.com/runtimed/runtimed/pkg/sandbox/network/cni"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// networks asks the network's own check for links, rules and addresses.
func networks(ctx context.Context, o Options, known records) ([]Leak, error) {
	if o.CNIOnly {
		return nil, nil
	}
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

// attachments asks the network of plugins for what it remembers of sandboxes that are not recorded.
func attachments(_ context.Context, o Options, known records) ([]Leak, error) {
	if o.CNICache == "" {
		return nil, nil
	}
	found, err := cni.Leaks(o.CNICache, func(sid string) bool { _, ok := known.sandboxes[sid]; return ok })
	var out []Leak
	for _, what := range found {
		out = append(out, Leak{Network, what, "start the daemon with network.mode = \"cni\", which has the plugins remove it"})
	}
	return out, err
}

// groups finds groups of sandboxes and containers below this daemon's root, and below the groups of recorded pods,
// wherever their parents are. Groups that a request named as parents stay for good; the ids of ours are told by form.
func groups(_ context.Context, o Options, known records) ([]Leak, error) {
	mine := map[string]bool{}
	units := spec.Groups{Root: o.CgroupRoot, Systemd: true} // whatever the driver is now
	roots := []string{o.CgroupRoot, units.Pods(), units.Shims()}
	for id, s := range known.sandboxes {
		mine[id] = true
		if path := s.rec.Spec.CgroupPath; path != "" && !strings.HasPrefix(path, o.CgroupRoot+"/") && !strings.HasPrefix(path, units.Pods()+"/") {
			roots = append(roots, path)
		}
	}
	for id := range known.containers {
		mine[id] = true
	}
	node := o.Cgroups.Node()
	hierarchies := []string{node.Unified}
	for _, h := range node.V1 {
		hierarchies = append(hierarchies, h.Dir)
	}
	in := map[string][]string{}
	var failed []error
	for _, root := range roots {
		for _, h := range hierarchies {
			if h == "" {
				continue
			}
			err := strayGroups(filepath.Join(h, root), mine, func(path string) {
				path = strings.TrimPrefix(path, h)
				in[path] = append(in[path], filepath.Base(h))
			})
			failed = append(failed, err)
		}
	}
	var out []Leak
	for path, hs := range in {
		out = append(out, Leak{Cgroup, fmt.Sprintf("group %s (%s) is of nothing that is recorded", path, strings.Join(hs, ", ")),
			"start the daemon, which removes it; or rmdir it in each hierarchy, children first"})
	}
	return out, errors.Join(failed...)
}

// strayGroups reports the topmost groups in the tree that are an unknown sandbox's or container's. What is inside of a
// container is the container's own.
func strayGroups(tree string, mine map[string]bool, report func(path string)) error {
	return filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
		id := spec.GroupID(filepath.Base(path))
		switch {
		case errors.Is(err, fs.ErrNotExist): // gone meanwhile, or never there
			return nil
		case err != nil:
			return err
		case !d.IsDir():
			return nil
		case filepath.Base(filepath.Dir(path)) == "shims" && filepath.Dir(filepath.Dir(path)) == tree:
			report(path) // shims are in that group itself
			return fs.SkipDir
		case !idForm.MatchString(id):
			return nil
		case !mine[id]:
			report(path)
			return fs.SkipDir
		case idForm.MatchString(spec.GroupID(filepath.Base(filepath.Dir(path)))):
			return fs.SkipDir
		}
		return nil
	})
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
