package translate

import (
	"path"
	"slices"
	"strings"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func (c *check) mounts(field string, in []*v1.Mount) []spec.Mount {
	if !c.count(field, len(in), maxItems) {
		return nil
	}
	out := make([]spec.Mount, 0, len(in))
	seen := make(map[string]int, len(in))
	for i, m := range in {
		one := c.mount(at(field, i), m)
		target := path.Join("/", one.ContainerPath)
		if first, twice := seen[target]; twice {
			c.fail(at(field, i)+".container_path", "%s is taken by entry %d already", shown(target), first)
		}
		seen[target] = i
		out = append(out, one)
	}
	return out
}

func (c *check) mount(field string, m *v1.Mount) spec.Mount {
	switch {
	case m == nil:
		c.fail(field, "is missing")
	case m.GetImage() != nil && m.GetHostPath() != "":
		c.fail(field+".image", "is given beside host_path: give one of them")
	case m.GetImage() == nil && m.GetImageSubPath() != "":
		c.fail(field+".image_sub_path", "is given without an image")
	}
	out := spec.Mount{
		ContainerPath:     c.path(field+".container_path", m.GetContainerPath()),
		Options:           c.mountOptions(field+".mount_options", m.GetMountOptions()),
		Readonly:          m.GetReadonly(),
		RecursiveReadonly: m.GetRecursiveReadOnly(),
		SELinuxRelabel:    m.GetSelinuxRelabel(),
		Propagation:       c.propagation(field+".propagation", m.GetPropagation()),
		UIDs:              c.mappings(field+".uidMappings", m.GetUidMappings()),
		GIDs:              c.mappings(field+".gidMappings", m.GetGidMappings()),
	}
	if m.GetImage() == nil {
		out.HostPath = c.abs(field+".host_path", m.GetHostPath())
	} else {
		c.imageMount(field, m, &out)
	}
	switch target := path.Join("/", out.ContainerPath); {
	case out.ContainerPath == "":
		c.fail(field+".container_path", "is missing")
	case target == "/":
		c.fail(field+".container_path", "%s is the container's root, which is the image", shown(out.ContainerPath))
	case out.RecursiveReadonly && !out.Readonly:
		c.fail(field+".recursive_read_only", "needs readonly too")
	case out.RecursiveReadonly && out.Propagation != spec.PropagationPrivate:
		c.fail(field+".recursive_read_only", "needs private propagation")
	case (len(out.UIDs) == 0) != (len(out.GIDs) == 0):
		c.fail(field, "maps only users or only groups: give uidMappings and gidMappings, or neither")
	}
	return out
}

// imageMount is read-only by the CRI's definition, whether the request says so or not, and lies on layers that are the
// pod's already: neither propagation nor id maps of its own mean anything.
func (c *check) imageMount(field string, m *v1.Mount, out *spec.Mount) {
	out.Image = c.reference(field+".image.image", m.GetImage().GetImage())
	out.UserImage = c.text(field+".image.user_specified_image", m.GetImage().GetUserSpecifiedImage(), maxReference)
	out.ImageSubPath = c.path(field+".image_sub_path", m.GetImageSubPath())
	switch {
	case path.IsAbs(out.ImageSubPath):
		c.fail(field+".image_sub_path", "%s is absolute: it is relative to the image's root", shown(out.ImageSubPath))
	case out.Propagation != spec.PropagationPrivate:
		c.fail(field+".propagation", "%s is not possible for an image: it is private", out.Propagation)
	case len(out.UIDs)+len(out.GIDs) > 0:
		c.fail(field+".uidMappings", "are not possible for an image: its files have the container's ids")
	}
	out.Readonly = true
}

// mountOptions are those that the CRI names, each once.
func (c *check) mountOptions(field string, in []string) []string {
	if len(in) == 0 {
		return nil
	}
	for i, o := range in {
		switch {
		case !slices.Contains([]string{"noexec", "nodev", "nosuid"}, o):
			c.fail(at(field, i), "%s is none of noexec, nodev and nosuid", shown(o))
			return nil
		case slices.Contains(in[:i], o):
			c.fail(at(field, i), "%s is given twice", shown(o))
			return nil
		}
	}
	return slices.Clone(in)
}

func (c *check) propagation(field string, p v1.MountPropagation) spec.Propagation {
	switch p {
	case v1.MountPropagation_PROPAGATION_PRIVATE:
		return spec.PropagationPrivate
	case v1.MountPropagation_PROPAGATION_HOST_TO_CONTAINER:
		return spec.PropagationHostToContainer
	case v1.MountPropagation_PROPAGATION_BIDIRECTIONAL:
		return spec.PropagationBidirectional
	}
	c.fail(field, "%d is not a propagation of the CRI", p)
	return ""
}

func (c *check) devices(field string, in []*v1.Device) []spec.Device {
	if !c.count(field, len(in), maxItems) {
		return nil
	}
	out := make([]spec.Device, 0, len(in))
	for i, d := range in {
		field := at(field, i)
		if d == nil {
			c.fail(field, "is missing")
		}
		out = append(out, spec.Device{
			ContainerPath: c.abs(field+".container_path", d.GetContainerPath()),
			HostPath:      c.abs(field+".host_path", d.GetHostPath()),
			Permissions:   c.permissions(field+".permissions", d.GetPermissions()),
		})
	}
	return out
}

// permissions are some of r, w and m, each once (the devices cgroup's access).
func (c *check) permissions(field, s string) string {
	left := "rwm"
	for _, r := range s {
		if !strings.ContainsRune(left, r) {
			c.fail(field, "%s is not made of r, w and m, each once", shown(s))
			return s
		}
		left = strings.ReplaceAll(left, string(r), "")
	}
	if s == "" {
		c.fail(field, "is missing: say which of r, w and m are allowed")
	}
	return s
}

var propagations = map[spec.Propagation]v1.MountPropagation{
	spec.PropagationPrivate:         v1.MountPropagation_PROPAGATION_PRIVATE,
	spec.PropagationHostToContainer: v1.MountPropagation_PROPAGATION_HOST_TO_CONTAINER,
	spec.PropagationBidirectional:   v1.MountPropagation_PROPAGATION_BIDIRECTIONAL,
}

// mountsBack is the original list: the kubelet finds its termination message by host_path there.
func mountsBack(in []spec.Mount) []*v1.Mount {
	out := make([]*v1.Mount, 0, len(in))
	for _, m := range in {
		one := &v1.Mount{
			ContainerPath: m.ContainerPath, HostPath: m.HostPath, Readonly: m.Readonly,
			RecursiveReadOnly: m.RecursiveReadonly, SelinuxRelabel: m.SELinuxRelabel,
			Propagation: propagations[m.Propagation], MountOptions: m.Options,
			UidMappings: mappingsBack(m.UIDs), GidMappings: mappingsBack(m.GIDs),
		}
		if m.Image != "" {
			one.Image = &v1.ImageSpec{Image: m.Image, UserSpecifiedImage: m.UserImage}
			one.ImageSubPath = m.ImageSubPath
		}
		out = append(out, one)
	}
	return out
}

func mappingsBack(in []spec.IDMapping) []*v1.IDMapping {
	var out []*v1.IDMapping
	for _, m := range in {
		out = append(out, &v1.IDMapping{ContainerId: m.ContainerID, HostId: m.HostID, Length: m.Size})
	}
	return out
}
