package bundle

import (
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/security/idmap"
)

const (
	cgroupDir = "/sys/fs/cgroup"
	shmDir    = "/dev/shm"
	ttyGroup  = 5 // of devpts, in every distribution
)

// mounts are the standard ones, the pod's files and the request's, outer before inner. A mount of the request at the
// same place as one of the others replaces it. propagation is what the container's root needs for them.
func (in Input) mounts() (list []specs.Mount, propagation string, err error) {
	list = append(in.standard(), in.podFiles()...)
	seen := map[string]bool{}
	for i, m := range in.Container.Request.Mounts {
		n, err := in.mount(i, m)
		if err != nil {
			return nil, "", spec.Invalidf("mounts[%d]: %w", i, err)
		}
		if seen[n.Destination] {
			return nil, "", spec.Invalidf("mounts[%d]: %q is mounted twice", i, n.Destination)
		}
		seen[n.Destination] = true
		if j := slices.IndexFunc(list, func(o specs.Mount) bool { return o.Destination == n.Destination }); j >= 0 {
			list[j] = n
		} else {
			list = append(list, n)
		}
		propagation = widest(propagation, m.Propagation)
	}
	if list, err = in.cdiMounts(list, seen); err != nil {
		return nil, "", err
	}
	if list, err = in.deviceMounts(list, seen); err != nil {
		return nil, "", err
	}
	slices.SortStableFunc(list, func(a, b specs.Mount) int {
		return strings.Count(a.Destination, "/") - strings.Count(b.Destination, "/")
	})
	return list, propagation, nil
}

// widest is the propagation of the root: a mount cannot reach the host through a root that is cut off from it.
func widest(have string, p spec.Propagation) string {
	switch {
	case p == spec.PropagationBidirectional || have == "rshared":
		return "rshared"
	case p == spec.PropagationHostToContainer || have == "rslave":
		return "rslave"
	}
	return ""
}

func (in Input) standard() []specs.Mount {
	mode := "ro"
	if in.Container.Profile.Privileged {
		mode = "rw"
	}
	pts := []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}
	_, gids := in.maps()
	if _, mapped := idmap.ToHost(gids, ttyGroup); mapped || gids == nil {
		pts = append(pts, "gid=5") // an unmapped one would fail the mount
	}
	return []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		in.sys(mode),
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: pts},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: cgroupDir, Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", mode}},
	}
}

// sys is a mount of the kernel's: which network it shows, that network's owner must mount. On the node's network a
// container with a user namespace is not the owner, and gets a copy of the node's own mount, without what is mounted below.
func (in Input) sys(mode string) specs.Mount {
	if in.userNamespace() && !in.ownNetwork() {
		return specs.Mount{Destination: "/sys", Type: "bind", Source: "/sys", Options: []string{"bind", "rprivate", "nosuid", "noexec", "nodev", mode}}
	}
	return specs.Mount{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", mode}}
}

// podFiles are shared by all containers of the pod. They are the pod's root's already: no id map. The IPC namespace
// decides whose /dev/shm it is.
func (in Input) podFiles() []specs.Mount {
	mode := "rw"
	if in.Container.Profile.ReadonlyRoot {
		mode = "ro"
	}
	dir := in.Layout.Sandbox(in.Sandbox.ID)
	var list []specs.Mount
	for _, f := range []string{"hosts", "hostname", "resolv.conf"} {
		list = append(list, specs.Mount{
			Destination: path.Join("/etc", f), Type: "bind", Source: path.Join(dir, f),
			Options: []string{"bind", "rprivate", "nosuid", "nodev", "noexec", mode},
		})
	}
	shm := shmDir
	if in.ownIPC() {
		shm = in.Layout.Shm(in.Sandbox.ID)
	}
	return append(list, specs.Mount{
		Destination: shmDir, Type: "bind", Source: shm,
		Options: []string{"bind", "rprivate", "nosuid", "nodev", "noexec", "rw"},
	})
}

// mount is one of the request's.
func (in Input) mount(index int, m spec.Mount) (specs.Mount, error) {
	dst, err := in.destination(m.ContainerPath)
	if err != nil {
		return specs.Mount{}, err
	}
	if m.Image != "" {
		return in.imageMount(index, m, dst)
	}
	src, err := in.source(m.HostPath)
	if err != nil {
		return specs.Mount{}, err
	}
	out := specs.Mount{Destination: dst, Source: src, Type: "bind", Options: []string{"rbind"}}
	switch m.Propagation {
	case spec.PropagationPrivate, "":
		out.Options = append(out.Options, "rprivate")
	case spec.PropagationHostToContainer:
		out.Options = append(out.Options, "rslave")
	case spec.PropagationBidirectional:
		out.Options = append(out.Options, "rshared")
	default:
		return specs.Mount{}, spec.Invalidf("propagation %q is not known", m.Propagation)
	}
	switch {
	case m.RecursiveReadonly && (!m.Readonly || m.Propagation == spec.PropagationHostToContainer || m.Propagation == spec.PropagationBidirectional):
		return specs.Mount{}, spec.Invalidf("recursive_read_only at %q needs readonly and private propagation", dst)
	case m.RecursiveReadonly:
		out.Options = append(out.Options, "rro")
	case m.Readonly:
		out.Options = append(out.Options, "ro")
	default:
		out.Options = append(out.Options, "rw")
	}
	options, err := mountOptions(m.Options)
	if err != nil {
		return specs.Mount{}, err
	}
	out.Options = append(out.Options, options...)
	if out.UIDMappings, out.GIDMappings, err = in.mountMaps(m); err != nil {
		return specs.Mount{}, err
	}
	return out, nil
}

// mountMaps: files look inside as they are owned on disk. The request's own map wins over the pod's.
func (in Input) mountMaps(m spec.Mount) (uids, gids []specs.LinuxIDMapping, err error) {
	if (len(m.UIDs) == 0) != (len(m.GIDs) == 0) {
		return nil, nil, spec.Invalidf("%q maps only users or only groups: give both, or neither", m.ContainerPath)
	}
	if len(m.UIDs) > 0 {
		return idMappings(m.UIDs), idMappings(m.GIDs), nil
	}
	u, g := in.maps()
	return idMappings(u), idMappings(g), nil
}

func idMappings(in []spec.IDMapping) []specs.LinuxIDMapping {
	var out []specs.LinuxIDMapping
	for _, m := range in {
		out = append(out, specs.LinuxIDMapping{ContainerID: m.ContainerID, HostID: m.HostID, Size: m.Size})
	}
	return out
}

// procMounts are the files of /proc that may be replaced, as lxcfs does; libcontainer has the same list.
var procMounts = []string{"/proc/cpuinfo", "/proc/diskstats", "/proc/meminfo", "/proc/stat", "/proc/swaps", "/proc/uptime", "/proc/loadavg"}

// destination refuses what would take the container's own /proc, /sys or /dev from under the masks. A privileged
// container, which has no masks, may have the node's /sys and /dev: storage drivers need them.
func (in Input) destination(p string) (string, error) {
	dst := path.Clean("/" + p)
	switch {
	case p == "" || strings.IndexByte(p, 0) >= 0 || len(p) > maxPath:
		return "", spec.Invalidf("container path %.64q is not a path", p)
	case dst == "/":
		return "", spec.Invalidf("container path %q is the container's root, which is the image's", p)
	case below(dst, "/proc") && !slices.Contains(procMounts, dst):
		return "", spec.Invalidf("container path %q is in /proc, which only the kernel fills", p)
	case (dst == "/sys" || dst == "/dev") && !in.Container.Profile.Privileged:
		return "", spec.Invalidf("container path %q is the container's own %s: only a privileged container can replace it", p, dst)
	}
	return dst, nil
}

// source refuses the runtime's own directories: whoever writes there is the runtime.
func (in Input) source(p string) (string, error) {
	if r, ok := in.Sources[p]; ok {
		p = r
	}
	switch {
	case !path.IsAbs(p) || strings.IndexByte(p, 0) >= 0 || len(p) > maxPath:
		return "", spec.Invalidf("host path %.64q is not an absolute path", p)
	case below(path.Clean(p), in.Layout.Root) || below(path.Clean(p), in.Layout.Run):
		return "", spec.Invalidf("host path %q belongs to the runtime itself, and is not for containers", p)
	}
	return path.Clean(p), nil
}

// maxVolumes bounds what an image can make the creator do at each start.
const maxVolumes = 128

// volumes are the image's volumes that no mount of the request covers, sorted. The kernel's own directories are nobody's
// to declare (CVE-2019-16884).
func (in Input) volumes() ([]string, error) {
	var list []string
	for _, v := range in.Container.Image.Config.Volumes {
		dst := path.Clean("/" + v)
		if strings.IndexByte(v, 0) >= 0 || len(v) > maxPath || dst == "/" || below(dst, "/proc") || below(dst, "/sys") || below(dst, "/dev") {
			return nil, spec.Invalidf("the image declares a volume at %.64q, where none can be", v)
		}
		covered := slices.ContainsFunc(in.Container.Request.Mounts, func(m spec.Mount) bool { return path.Clean("/"+m.ContainerPath) == dst })
		if !covered {
			list = append(list, dst)
		}
	}
	slices.Sort(list)
	list = slices.Compact(list)
	if len(list) > maxVolumes {
		return nil, spec.Invalidf("the image declares %d volumes, more than %d", len(list), maxVolumes)
	}
	return list, nil
}
