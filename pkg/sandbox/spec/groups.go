package spec

import (
	"path"
	"strings"
)

// unitPrefix begins the name of every scope of ours.
const unitPrefix = "runtimed-"

// maxUnit is the longest name of a unit that systemd takes (UNIT_NAME_MAX, without its NUL).
const maxUnit = 255

// Groups names control groups: pure. All paths are below the hierarchies' mount points. With cgroupfs a pod's group is
// <parent>/<id>, and its containers' are below it, each by its id. With systemd the pod's group is a transient slice
// below the parent's slice, and a container's a scope in it, runtimed-<id>.scope.
//
// The names of what belongs to a pod follow from the pod's path, not from the driver: a pod that was made under another
// driver keeps its form.
type Groups struct {
	// Root is the configuration's cgroup.root: an absolute, clean path.
	Root    string
	Systemd bool
}

// Pod is the path of a sandbox's own group, an inner node: only groups below it hold processes (cgroups(7), no internal
// processes). parent is the request's, "" is the root's own. With systemd it must be a slice, as a path
// (/kubepods.slice/kubepods-pod1.slice) or as a name (pods.slice): anything else is InvalidArgument.
func (g Groups) Pod(parent, id string) (string, error) {
	if parent == "" {
		parent = g.Pods()
	}
	if !g.Systemd {
		return path.Join("/", parent, id), nil
	}
	at, err := SlicePath(path.Base(parent))
	if err != nil || parent != at && parent != "/"+path.Base(parent) && parent != path.Base(parent) {
		return "", Invalidf("cgroup parent %.128q is not a slice, such as /kubepods.slice/kubepods-burstable.slice: "+
			"this node's driver is systemd (cgroup.driver)", parent)
	}
	name := id + ".slice"
	if at != "/" {
		name = strings.TrimSuffix(path.Base(at), ".slice") + "-" + name
	}
	if len(name) > maxUnit {
		return "", Invalidf("cgroup parent %.128q: with the sandbox's id the name of its slice is longer than %d bytes", parent, maxUnit)
	}
	return path.Join(at, name), nil
}

// Pods is the group below which pods are that name no parent.
func (g Groups) Pods() string { return g.own("pods") }

// Shims is the group below which shims are. With cgroupfs all share it.
func (g Groups) Shims() string { return g.own("shims") }

// Shim is the group that the shim of a container enters.
func (g Groups) Shim(containerID string) string {
	if !g.Systemd {
		return g.Shims()
	}
	return path.Join(g.Shims(), unitPrefix+containerID+"-shim.scope")
}

// own is the group of that name below the root. For a slice it is the kubelet's rule: a dash in a name would be a level
// of its own, so it becomes an underscore.
func (g Groups) own(name string) string {
	if !g.Systemd {
		return path.Join(g.Root, name)
	}
	stem, is := strings.CutSuffix(path.Base(g.Root), ".slice")
	if !is {
		stem = strings.NewReplacer("-", "_", "/", "-").Replace(strings.Trim(g.Root, "/"))
	}
	at, err := SlicePath(stem + "-" + name + ".slice")
	if err != nil { // a root that is no name for a slice: the pod's check says so
		return "/" + stem + "-" + name + ".slice"
	}
	return at
}

// SlicePath is where systemd puts a slice: a-b.slice is /a.slice/a-b.slice, and -.slice is / (systemd.slice(5)).
func SlicePath(name string) (string, error) {
	stem, ok := strings.CutSuffix(name, ".slice")
	if !ok || strings.Contains(name, "/") || len(name) > maxUnit {
		return "", Invalidf("%.128q is not the name of a slice", name)
	}
	if stem == "-" {
		return "/", nil
	}
	at, upTo := "", ""
	for part := range strings.SplitSeq(stem, "-") {
		if part == "" {
			return "", Invalidf("%.128q is not the name of a slice: it has an empty part", name)
		}
		upTo += part
		at += "/" + upTo + ".slice"
		upTo += "-"
	}
	return at, nil
}

// ContainerGroup is the group of a container of the pod whose group is pod.
func ContainerGroup(pod, containerID string) string {
	if strings.HasSuffix(pod, ".slice") {
		return pod + "/" + unitPrefix + containerID + ".scope"
	}
	return pod + "/" + containerID
}

// InitGroup is the group of the pod's own init.
func InitGroup(pod, sandboxID string) string {
	if strings.HasSuffix(pod, ".slice") {
		return pod + "/" + unitPrefix + sandboxID + "-init.scope"
	}
	return pod + "/init"
}

// GroupID is the id in the name of a sandbox's or a container's group, an init's or a shim's among them. Of any other
// name it is the name, or a part of it: the caller compares it with ids.
func GroupID(name string) string {
	if id, ok := strings.CutSuffix(name, ".slice"); ok {
		return id[strings.LastIndexByte(id, '-')+1:]
	}
	id, ok := strings.CutSuffix(name, ".scope")
	if !ok {
		return name
	}
	id = strings.TrimPrefix(id, unitPrefix)
	return strings.TrimSuffix(strings.TrimSuffix(id, "-shim"), "-init")
}

// Unit splits the path of a scope or a slice into the name of the unit and of the slice that holds it. ok is false for
// any other group.
func Unit(group string) (name, slice string, ok bool) {
	name = path.Base(group)
	if !strings.HasSuffix(name, ".slice") && !strings.HasSuffix(name, ".scope") {
		return "", "", false
	}
	slice = path.Base(path.Dir(group))
	if slice == "/" {
		slice = "-.slice"
	}
	at, err := SlicePath(slice)
	if err != nil || at != path.Dir(group) {
		return "", "", false
	}
	if strings.HasSuffix(name, ".slice") {
		at, err := SlicePath(name)
		return name, slice, err == nil && at == group
	}
	return name, slice, true
}
