package bundle

import (
	"path"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// cdiOptions are the mount options that a CDI file may give: none that lets a mount reach the node.
var cdiOptions = []string{
	"bind", "rbind", "ro", "rw", "rro", "nosuid", "suid", "nodev", "dev", "noexec", "exec", "private", "rprivate", "slave", "rslave",
	"relatime", "noatime", "nodiratime", "strictatime",
}

// cdiMounts adds the mounts of CDI devices to list. What is at the same place and not the request's is replaced.
func (in Input) cdiMounts(list []specs.Mount, asked map[string]bool) ([]specs.Mount, error) {
	for _, m := range in.CDI.Mounts {
		n, err := in.cdiMount(m)
		if err != nil {
			return nil, spec.Errorf(spec.KindOf(err), "CDI_devices: %w", err)
		}
		if asked[n.Destination] {
			return nil, spec.Invalidf("CDI_devices: %q is mounted twice, by the request and by a device", n.Destination)
		}
		list = slices.DeleteFunc(list, func(o specs.Mount) bool { return o.Destination == n.Destination })
		list = append(list, n)
	}
	return list, nil
}

func (in Input) cdiMount(m specs.Mount) (specs.Mount, error) {
	dst, err := in.destination(m.Destination)
	if err != nil {
		return specs.Mount{}, err
	}
	for _, o := range m.Options {
		if !slices.Contains(cdiOptions, o) {
			return specs.Mount{}, spec.Invalidf("option %.64q of the mount at %q is not served", o, dst)
		}
	}
	out := specs.Mount{Destination: dst, Type: "bind", Options: slices.Clone(m.Options)}
	switch {
	case m.Type == "tmpfs":
		out.Type, out.Source = "tmpfs", "tmpfs"
		return out, nil
	case m.Type != "" && m.Type != "bind" && m.Type != "none":
		return specs.Mount{}, spec.Invalidf("type %.64q of the mount at %q is neither bind nor tmpfs", m.Type, dst)
	}
	if out.Source, err = in.source(m.Source); err != nil {
		return specs.Mount{}, err
	}
	if !slices.Contains(out.Options, "bind") && !slices.Contains(out.Options, "rbind") {
		out.Options = append([]string{"rbind"}, out.Options...)
	}
	return out, nil
}

// devices are the request's and those of CDI devices, which come first at the same place: the request named them.
func (in Input) devices() ([]specs.LinuxDevice, error) {
	if len(in.CDI.Devices) == 0 {
		return in.Devices, nil
	}
	own := map[string]bool{}
	for _, d := range in.CDI.Devices {
		dst, err := in.destination(d.Path)
		switch {
		case err != nil:
			return nil, spec.Errorf(spec.KindOf(err), "CDI_devices: %w", err)
		case dst != d.Path || path.Dir(dst) == "/" || below(dst, "/sys"):
			return nil, spec.Invalidf("CDI_devices: %.64q is no place for a device", d.Path)
		case own[dst]:
			return nil, spec.Invalidf("CDI_devices: two devices are at %q", dst)
		}
		own[dst] = true
	}
	rest := slices.DeleteFunc(slices.Clone(in.Devices), func(d specs.LinuxDevice) bool { return own[d.Path] })
	return append(rest, in.CDI.Devices...), nil
}

// groups are the user's, and those that CDI devices need.
func (in Input) groups() []uint32 {
	groups := in.Container.Profile.User.Groups
	if len(in.CDI.Groups) == 0 {
		return groups
	}
	all := slices.Concat(groups, in.CDI.Groups)
	slices.Sort(all)
	return slices.Compact(all)
}
