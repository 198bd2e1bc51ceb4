package cdi

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"tags.cncf.io/container-device-interface/pkg/cdi"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// DefaultDirs are CDI's own: what is installed, and what is made at each boot.
var DefaultDirs = []string{"/etc/cdi", "/var/run/cdi"}

// Registry is where the files are. A later directory's device wins over an earlier one's of the same name. The zero
// Registry has no devices.
type Registry struct {
	Dirs []string // absolute
}

// Edits are what the devices of one container ask for, in the order of the devices.
type Edits struct {
	Env     []string // KEY=value
	Mounts  []specs.Mount
	Devices []specs.LinuxDevice
	Rules   []specs.LinuxDeviceCgroup
	// Sources are the node's paths of Devices, by their paths in the container.
	Sources map[string]string
	Groups  []uint32 // additional ones of the first process
	Hooks   *specs.Hooks
}

// Empty tells whether nothing is asked for.
func (e Edits) Empty() bool {
	return len(e.Env)+len(e.Mounts)+len(e.Devices)+len(e.Rules)+len(e.Groups) == 0 && e.Hooks == nil
}

// Find looks qualified names up; user is who the container runs as, and owns devices of which the files name no owner.
// NotFound names the devices that no file has, and the files that could not be read; FailedPrecondition a file that
// others than root can write, and a device that is not on the node; NotImplemented edits that this runtime does not make.
func (r Registry) Find(names []string, user spec.User) (Edits, error) {
	if len(names) == 0 {
		return Edits{}, nil
	}
	for _, dir := range r.Dirs {
		if err := checkDir(dir); err != nil {
			return Edits{}, err
		}
	}
	cache, err := cdi.NewCache(cdi.WithSpecDirs(r.Dirs...), cdi.WithAutoRefresh(false))
	if err != nil {
		return Edits{}, spec.Errorf(errdefs.ErrFailedPrecondition, "CDI_devices: %w", err)
	}
	scratch := &specs.Spec{
		Process: &specs.Process{User: specs.User{UID: user.UID, GID: user.GID}},
		Linux:   &specs.Linux{Resources: &specs.LinuxResources{}},
	}
	missing, err := cache.InjectDevices(scratch, names...)
	if len(missing) > 0 {
		return Edits{}, spec.NotFoundf("CDI_devices: no file in %s has %s%s", strings.Join(r.Dirs, ", "), quoted(missing), broken(cache))
	}
	if err != nil {
		return Edits{}, spec.Errorf(errdefs.ErrFailedPrecondition, "CDI_devices: %w", err)
	}
	e := Edits{
		Env: scratch.Process.Env, Mounts: scratch.Mounts, Devices: scratch.Linux.Devices, Rules: scratch.Linux.Resources.Devices,
		Groups: scratch.Process.User.AdditionalGids, Hooks: scratch.Hooks, Sources: sources(cache, names),
	}
	if len(scratch.Linux.NetDevices) > 0 {
		return Edits{}, spec.Errorf(errdefs.ErrNotImplemented, "CDI_devices: %s move network devices, which is not served yet", quoted(names))
	}
	if scratch.Linux.IntelRdt != nil {
		return Edits{}, spec.Errorf(errdefs.ErrNotImplemented, "CDI_devices: %s set Intel RDT, which is not served yet", quoted(names))
	}
	if err := e.check(); err != nil {
		return Edits{}, err
	}
	return e, nil
}

// sources are where the files say that the devices are on the node; what is left out is at the same path.
func sources(c *cdi.Cache, names []string) map[string]string {
	at := map[string]string{}
	for _, name := range names {
		d := c.GetDevice(name)
		if d == nil {
			continue
		}
		for _, n := range slices.Concat(d.GetSpec().ContainerEdits.DeviceNodes, d.ContainerEdits.DeviceNodes) {
			at[n.Path] = cmp.Or(n.HostPath, n.Path)
		}
	}
	return at
}

func quoted(names []string) string {
	var out []string
	for _, n := range names {
		out = append(out, fmt.Sprintf("%.128q", n))
	}
	return strings.Join(out, ", ")
}

// broken names the files that the library could not use: one of them may have been meant.
func broken(c *cdi.Cache) string {
	files := slices.Sorted(maps.Keys(c.GetErrors()))
	if len(files) == 0 {
		return ""
	}
	first := c.GetErrors()[files[0]][0]
	return fmt.Sprintf("; %d files cannot be used, the first is %q: %.300s", len(files), files[0], first.Error())
}
