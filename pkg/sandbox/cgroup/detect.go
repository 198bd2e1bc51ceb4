package cgroup

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	cgroups "github.com/containerd/cgroups/v3"
	"github.com/containerd/errdefs"
	"github.com/moby/sys/mountinfo"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Mode is how a node lays out its hierarchies.
type Mode string

const (
	Legacy  Mode = "v1"
	Hybrid  Mode = "hybrid" // v1 controllers, and a v2 mount beside them
	Unified Mode = "v2"
)

// mountRoot is where every distribution mounts its hierarchies.
const mountRoot = "/sys/fs/cgroup"

// Hierarchy is one v1 mount.
type Hierarchy struct {
	Dir         string   // its mount point
	Controllers []string // such as "cpu", "cpuacct", or "name=systemd"
}

// Node is what a node has: plain data, read once.
type Node struct {
	Mode Mode
	Root string // /sys/fs/cgroup
	V1   []Hierarchy
	// Unified is the v2 mount point, "" with Legacy.
	Unified string
}

// Detect reads the node's hierarchies from its mount table. It changes nothing. A node without cgroups, or one that
// sees only a part of a hierarchy (a container without a cgroup namespace), is a FailedPrecondition.
func Detect() (Node, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup", "cgroup2"))
	if err != nil {
		return Node{}, err
	}
	n, err := nodeOf(mounts)
	if err != nil {
		return Node{}, err
	}
	if (cgroups.Mode() == cgroups.Unified) != (n.Mode == Unified) {
		return Node{}, spec.Errorf(errdefs.ErrFailedPrecondition,
			"%s is covered by another mount: its mount table says %s", mountRoot, n.Mode)
	}
	return n, nil
}

// nodeOf is the pure part of Detect.
func nodeOf(mounts []*mountinfo.Info) (Node, error) {
	n := Node{Root: mountRoot}
	for _, m := range mounts {
		if m.Mountpoint != mountRoot && filepath.Dir(m.Mountpoint) != mountRoot {
			continue // a second view of the same hierarchy, such as another container's
		}
		if m.Root != "/" {
			return Node{}, spec.Errorf(errdefs.ErrFailedPrecondition,
				"%s shows only %q of its hierarchy: give this container a cgroup namespace of its own", m.Mountpoint, m.Root)
		}
		if m.FSType == "cgroup2" {
			n.Unified = m.Mountpoint
			continue
		}
		n.add(Hierarchy{Dir: m.Mountpoint, Controllers: controllersOf(m.VFSOptions)})
	}
	switch {
	case len(n.V1) == 0 && n.Unified == "":
		return Node{}, spec.Errorf(errdefs.ErrFailedPrecondition, "no cgroup hierarchy is mounted below %s", mountRoot)
	case len(n.V1) == 0 && n.Unified == mountRoot:
		n.Mode = Unified
	case n.Unified != "":
		n.Mode = Hybrid
	default:
		n.Mode = Legacy
	}
	return n, nil
}

// add leaves out a hierarchy that is mounted twice.
func (n *Node) add(h Hierarchy) {
	for _, o := range n.V1 {
		if slices.Equal(o.Controllers, h.Controllers) {
			return
		}
	}
	n.V1 = append(n.V1, h)
}

// controllersOf picks the controllers out of a v1 superblock's options.
func controllersOf(options string) []string {
	var out []string
	for _, o := range strings.Split(options, ",") {
		switch {
		case o == "rw", o == "ro", o == "xattr", o == "noprefix", o == "clone_children", o == "none",
			o == "cpuset_v2_mode", o == "favordynmods", strings.HasPrefix(o, "release_agent="):
		default:
			out = append(out, o)
		}
	}
	slices.Sort(out)
	return out
}

// has tells whether a v1 hierarchy carries the controller.
func (n Node) has(controller string) bool {
	_, ok := n.dir(controller)
	return ok
}

// dir is the mount point of the v1 hierarchy that carries the controller.
func (n Node) dir(controller string) (string, bool) {
	for _, h := range n.V1 {
		if slices.Contains(h.Controllers, controller) {
			return h.Dir, true
		}
	}
	return "", false
}

// NoSwapLimit tells that containers' swap cannot be limited: v1 without memory.memsw (the boot option swapaccount).
func (n Node) NoSwapLimit() bool {
	dir, ok := n.dir("memory")
	return n.Mode != Unified && !(ok && exists(filepath.Join(dir, "memory.memsw.limit_in_bytes")))
}

// NoHugepageLimit tells that containers' huge pages cannot be limited: a kernel without them or without the controller,
// or a hybrid node where v2 has it, whose root is not the daemon's to change for containers.
func (n Node) NoHugepageLimit() bool {
	if !exists(hugepages) {
		return true
	}
	if n.Mode != Unified {
		return !n.has("hugetlb")
	}
	controllers, err := os.ReadFile(filepath.Join(n.Unified, "cgroup.controllers"))
	return err != nil || !slices.Contains(strings.Fields(string(controllers)), "hugetlb")
}

// trees are the directories of the group at path, one for each hierarchy. The unified one is first: its cgroup.kill is
// the quickest way to empty all of them.
func (n Node) trees(path string) []string {
	var out []string
	if n.Unified != "" {
		out = append(out, filepath.Join(n.Unified, path))
	}
	for _, h := range n.V1 {
		out = append(out, filepath.Join(h.Dir, path))
	}
	return out
}
