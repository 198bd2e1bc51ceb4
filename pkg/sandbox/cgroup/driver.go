package cgroup

import (
	"os"
	"strings"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Driver is who makes the groups.
type Driver string

const (
	// Auto is systemd where it is this node's init on cgroup v2, and cgroupfs everywhere else.
	Auto     Driver = "auto"
	Cgroupfs Driver = "cgroupfs" // the daemon itself
	Systemd  Driver = "systemd"  // systemd, which is asked over D-Bus for transient slices and scopes
)

// Driver chooses: the answer is Cgroupfs or Systemd. Systemd where it cannot be asked is a FailedPrecondition.
func (n Node) Driver(wanted Driver) (Driver, error) {
	return choose(wanted, n.Mode, systemdIsInit())
}

func choose(wanted Driver, mode Mode, init bool) (Driver, error) {
	switch {
	case wanted == Cgroupfs, wanted == Auto && (mode != Unified || !init):
		return Cgroupfs, nil
	case wanted == Auto:
		return Systemd, nil
	case wanted != Systemd:
		return "", spec.Invalidf("cgroup.driver %q is none of auto, cgroupfs and systemd", wanted)
	case mode != Unified:
		return "", spec.Preconditionf("cgroup.driver is systemd, which is served on cgroup v2 alone, and this node has %s: "+
			"use cgroupfs, or boot with systemd.unified_cgroup_hierarchy=1", mode)
	case !init:
		return "", spec.Preconditionf("cgroup.driver is systemd, and process 1 is not systemd: use cgroupfs")
	}
	return Systemd, nil
}

// systemdIsInit: it runs (sd_booted(3)), and is process 1 here. In a PID namespace of our own it would take our numbers
// of processes for those of others.
func systemdIsInit() bool {
	info, err := os.Lstat("/run/systemd/system")
	if err != nil || !info.IsDir() {
		return false
	}
	name, err := os.ReadFile("/proc/1/comm")
	return err == nil && strings.TrimSpace(string(name)) == "systemd"
}
