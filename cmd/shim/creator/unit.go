package creator

import (
	"strings"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
	"github.com/opencontainers/cgroups"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// throughSystemd has a group that is a scope by its path made by systemd, as a transient unit; any other is left alone.
func throughSystemd(c *cgroups.Cgroup, path string) {
	name, slice, ok := spec.Unit(path)
	stem, scope := strings.CutSuffix(name, ".scope")
	if !ok || !scope {
		return
	}
	c.Systemd, c.Path, c.Parent = true, "", slice
	c.ScopePrefix, c.Name, _ = strings.Cut(stem, "-")
	// A scope that ended badly, such as by the OOM killer, would stay loaded until somebody resets it.
	c.SystemdProps = append(c.SystemdProps, dbus.Property{Name: "CollectMode", Value: godbus.MakeVariant("inactive-or-failed")})
}
