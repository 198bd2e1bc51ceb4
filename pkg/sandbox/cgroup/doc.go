// Package cgroup makes, limits, empties and removes the control groups of pods, in every hierarchy that the node has:
// the split hierarchies of cgroup v1, v1 with the bare unified hierarchy beside it (hybrid), and cgroup v2.
//
// It owns the groups that it is given a path for and everything below them; it makes the parents that are missing, but
// never limits, kills in or removes a parent. It writes no device rule, freezes nothing and moves no process but the one
// that Join names. Container groups are libcontainer's, below the pod's.
//
// The life of a pod's group: Create (group and limits) → leaves below it, made by CreateLeaf and by libcontainer → Kill,
// any number of times → Remove. On v2 only leaves may hold processes, so the pod's group is an inner one: its
// controllers are handed on to its children, and the pod's init and every container has a child of its own.
//
// With the driver systemd (Node.Driver) the groups that are slices and scopes by name are transient units, made, limited
// and stopped over D-Bus by opencontainers/cgroups, as libcontainer makes the containers' own: the pod's group is a slice,
// the group of its init a scope, which is there as long as it has a process. Killing needs no word with systemd.
//
// containerd/cgroups/v3 makes groups and writes limits. Own code stands where that library does not fit: the unified
// half of a hybrid node, killing through cgroup.kill on it, killing in groups that v1's freezer holds, removing with
// nested children that a container made, and limits that it would write wrongly (quota or swap of -1 on v2).
package cgroup
