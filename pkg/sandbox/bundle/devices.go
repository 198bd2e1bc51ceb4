package bundle

import (
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// standardDevices are those that libcontainer makes in every container, behind all mounts.
var standardDevices = []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx", "/dev/console"}

// deviceMounts are the devices of a container with ids of its own. It may make none itself, so the node's are shown; and
// from where is said here, because libcontainer would take the node's device of the same path.
func (in Input) deviceMounts(list []specs.Mount, asked map[string]bool) ([]specs.Mount, error) {
	if !in.userNamespace() {
		return list, nil
	}
	devices, err := in.devices()
	if err != nil {
		return nil, err
	}
	for _, d := range devices {
		src, ok := in.CDI.Sources[d.Path]
		if !ok {
			src, ok = in.DeviceSources[d.Path]
		}
		switch {
		case !ok:
			return nil, spec.Preconditionf("device %q: where it is on the node is not known", d.Path)
		case asked[d.Path]:
			return nil, spec.Invalidf("%q is a mount and a device", d.Path)
		case slices.Contains(standardDevices, d.Path) && src == d.Path:
			continue // it is there already
		case slices.Contains(standardDevices, d.Path):
			return nil, spec.Invalidf("device %q cannot be at %q, in a container with ids of its own: that is a standard device", src, d.Path)
		}
		if src, err = in.source(src); err != nil {
			return nil, err
		}
		asked[d.Path] = true
		list = append(list, specs.Mount{Destination: d.Path, Type: "bind", Source: src, Options: []string{"bind", "rprivate", "nosuid", "noexec", "rw"}})
	}
	return list, nil
}
