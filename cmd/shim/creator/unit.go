package creator

import (
	"maps"
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
	if r := c.Resources; r != nil && r.MemorySwap > 0 && r.MemorySwap == r.Memory && r.Unified["memory.swap.max"] == "" {
		// No swap at all is no property to the library, which takes 0 for "not asked": a daemon-reload would lift it.
		r.Unified = maps.Clone(r.Unified)
		if r.Unified == nil {
			r.Unified = map[string]string{}
		}
		r.Unified["memory.swap.max"] = "0"
	}
	// A scope that ended badly, such as by the OOM killer, would stay loaded until somebody resets it.
	c.SystemdProps = append(c.SystemdProps, dbus.Property{Name: "CollectMode", Value: godbus.MakeVariant("inactive-or-failed")})
}
