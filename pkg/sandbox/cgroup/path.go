package cgroup

import (
	"strings"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

const (
	maxPath      = 1024 // bytes; far below PATH_MAX, so that mount point and interface file always fit
	maxComponent = 255  // NAME_MAX
)

// reserved are the names of interface files that the kernel puts into every group, so that none can be a child.
var reserved = map[string]bool{"tasks": true, "notify_on_release": true, "release_agent": true}

// prefixes of interface files: "memory.max", "cgroup.procs", …
var prefixes = []string{"cgroup", "cpu", "cpuacct", "cpuset", "memory", "io", "blkio", "pids", "hugetlb", "devices",
	"freezer", "rdma", "misc", "net_cls", "net_prio", "perf_event", "irq", "dmem"}

// CheckParent tells whether path can be the parent of a pod's group: "", "/", or an absolute, clean path such as
// "/kubepods/burstable/pod1". Anything else is an InvalidArgument; nothing is made and nothing is read.
func CheckParent(path string) error {
	if path == "" || path == "/" {
		return nil
	}
	return checkPath(path)
}

// checkPath is CheckParent for a group that is ours: never the root.
func checkPath(path string) error {
	switch {
	case path == "" || path == "/":
		return spec.Invalidf("cgroup path %q is the root of the hierarchy: name a group below it", path)
	case len(path) > maxPath:
		return spec.Invalidf("cgroup path of %d bytes is longer than %d", len(path), maxPath)
	case path[0] != '/':
		return spec.Invalidf("cgroup path %q is not absolute: it begins with / (the cgroupfs form, not systemd's)", path)
	}
	for _, c := range strings.Split(path[1:], "/") {
		if why := badComponent(c); why != "" {
			return spec.Invalidf("cgroup path %q: %s", path, why)
		}
	}
	return nil
}

func badComponent(c string) string {
	switch {
	case c == "":
		return "it has an empty component: write it without // and without a / at its end"
	case c == "." || c == "..":
		return "it has a component " + c
	case len(c) > maxComponent:
		return "a component is longer than 255 bytes"
	case reserved[c]:
		return c + " is the name of a file in every group"
	}
	for i := range len(c) {
		if c[i] < ' ' || c[i] == 0x7f {
			return "it has a control character"
		}
	}
	for _, p := range prefixes {
		if strings.HasPrefix(c, p+".") {
			return "a component begins with " + p + ". as the files of a group do"
		}
	}
	return ""
}
