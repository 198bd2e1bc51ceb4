package bundle

import (
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// imageMount is a mount of an image: the creator has it ready at a path of its own, with the container's ids. Nothing that
// an image brings along may be written, be a device, or change whose rights a program has.
func (in Input) imageMount(index int, m spec.Mount, dst string) (specs.Mount, error) {
	if m.HostPath != "" || len(m.UIDs)+len(m.GIDs) > 0 || m.Propagation != spec.PropagationPrivate && m.Propagation != "" {
		return specs.Mount{}, spec.Invalidf("the image at %q has a host path, id maps or a propagation: it can have none", dst)
	}
	options, err := mountOptions(m.Options)
	if err != nil {
		return specs.Mount{}, err
	}
	ours := []string{"rbind", "rprivate", "ro", "nosuid", "nodev"}
	if slices.Contains(options, "rnoexec") {
		ours = append(ours, "noexec")
	}
	return specs.Mount{Destination: dst, Source: in.Layout.ImageMount(index), Type: "bind", Options: ours}, nil
}

// mountOptions are recursive, so that a mount below is no way around them (mount_setattr(2), AT_RECURSIVE).
func mountOptions(asked []string) ([]string, error) {
	var out []string
	for _, o := range asked {
		if !slices.Contains([]string{"noexec", "nodev", "nosuid"}, o) {
			return nil, spec.Invalidf("mount option %.64q is none of noexec, nodev and nosuid", o)
		}
		out = append(out, "r"+o)
	}
	return out, nil
}

// images are what the creator mounts for the request's mounts.
func (in Input) images() ([]spec.LaunchImage, error) {
	var list []spec.LaunchImage
	for i, m := range in.Container.Request.Mounts {
		if m.Image == "" {
			continue
		}
		use, ok := in.Container.MountImages[i]
		switch {
		case !ok || len(use.Layers) == 0:
			return nil, spec.Preconditionf("mounts[%d]: the record of container %s does not say what image %.64q is", i, in.Container.ID, m.Image)
		case strings.IndexByte(m.ImageSubPath, 0) >= 0 || len(m.ImageSubPath) > maxPath || path.IsAbs(m.ImageSubPath):
			return nil, spec.Invalidf("mounts[%d]: %.64q is not a path in an image", i, m.ImageSubPath)
		}
		// Cleaned against the root: ".." never leaves the image.
		list = append(list, spec.LaunchImage{Index: i, Layers: use.Layers, SubPath: strings.TrimPrefix(path.Clean("/"+m.ImageSubPath), "/")})
	}
	return list, nil
}
