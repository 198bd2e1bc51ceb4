package bundle

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/security/cdi"
)

// Input is all that Build needs. Zero values of the optional fields are safe: they give less, never more.
type Input struct {
	Container spec.Container
	Sandbox   spec.Sandbox
	Layout    spec.Layout
	// PodInit is the pod's init, where its PID namespace is shared.
	PodInit *spec.Process
	// PIDTarget is the first process of the container whose PID namespace is shared (mode TARGET).
	PIDTarget *spec.Process
	// ShimCgroup is where the creator moves itself to, below each hierarchy's mount point.
	ShimCgroup string
	CgroupV2   bool
	// NoSwapLimit: the kernel keeps no account of swap (v1 without memory.memsw), so none is set.
	NoSwapLimit bool
	// NoHugepageLimit: no controller limits huge pages. The limit 0, which the kubelet sends for each size that the node
	// has, is left out then; any other is refused.
	NoHugepageLimit bool
	// Seccomp is the compiled filter of Profile.Seccomp; nil only where that is unconfined.
	Seccomp *specs.LinuxSeccomp
	// Devices and DeviceRules are the request's devices as security/device found them on the node.
	Devices []specs.LinuxDevice
	// DeviceSources are their paths on the node, by their paths in the container.
	DeviceSources map[string]string
	DeviceRules   []specs.LinuxDeviceCgroup
	// CDI are the edits of the request's CDI devices, as security/cdi found them.
	CDI cdi.Edits
	// Sources are the request's host paths as security/hostpath resolved them; what is not in it is used as it is.
	Sources map[string]string
	// NodeHostname is HOSTNAME in a pod with the node's UTS namespace; "" sets none.
	NodeHostname string
	// PidsLimit is the number of tasks of a container whose request has none; 0 leaves that to the pod's group.
	PidsLimit int64
}

// maps are the id maps of the container: none with the node's ids.
func (in Input) maps() (uids, gids []spec.IDMapping) {
	if p := in.Sandbox.Profile; p.UserNamespace && !in.Container.Profile.HostIDs {
		return p.UIDs, p.GIDs
	}
	return nil, nil
}

func (in Input) userNamespace() bool {
	return in.Sandbox.Profile.UserNamespace && !in.Container.Profile.HostIDs
}

func (in Input) ownNetwork() bool {
	return in.Sandbox.Request.Security.Namespaces.Network != spec.NamespaceNode
}

func (in Input) ownIPC() bool {
	return in.Sandbox.Request.Security.Namespaces.IPC != spec.NamespaceNode
}

// Build makes config.json and launch.json. InvalidArgument names what of the request or of the image cannot be;
// NotImplemented what is not served yet; FailedPrecondition what the records lack.
func Build(in Input) (*specs.Spec, spec.Launch, error) {
	if err := in.check(); err != nil {
		return nil, spec.Launch{}, err
	}
	process, err := in.process()
	if err != nil {
		return nil, spec.Launch{}, err
	}
	mounts, propagation, err := in.mounts()
	if err != nil {
		return nil, spec.Launch{}, err
	}
	linux, err := in.linux()
	if err != nil {
		return nil, spec.Launch{}, err
	}
	linux.RootfsPropagation = propagation
	launch, err := in.launch()
	if err != nil {
		return nil, spec.Launch{}, err
	}
	config := &specs.Spec{
		Version: specs.Version,
		Process: process,
		Root:    &specs.Root{Path: in.Layout.Rootfs(in.Container.ID), Readonly: in.Container.Profile.ReadonlyRoot},
		Mounts:  mounts,
		Linux:   linux,
		Hooks:   in.CDI.Hooks,
	}
	return config, launch, nil
}

// check refuses records that would mean less confinement than was decided.
func (in Input) check() error {
	p := in.Container.Profile
	unconfined := p.Seccomp.Type == spec.ProfileUnconfined
	uids, gids := in.maps()
	switch {
	case in.Container.ID == "" || in.Sandbox.ID == "":
		return spec.Preconditionf("the record of container %q in sandbox %q has no id", in.Container.ID, in.Sandbox.ID)
	case unconfined != (in.Seccomp == nil):
		return spec.Preconditionf("container %s: its seccomp profile is %q, and the filter is there: %v", in.Container.ID, p.Seccomp.Type, in.Seccomp != nil)
	case in.userNamespace() && (len(uids) == 0 || len(gids) == 0):
		return spec.Preconditionf("sandbox %s has a user namespace, and its record has no id maps", in.Sandbox.ID)
	case len(in.Container.Image.Layers) == 0:
		return spec.Preconditionf("image %q has no layers: nothing to run from", in.Container.Image.ID)
	}
	return nil
}

func (in Input) launch() (spec.Launch, error) {
	c := in.Container
	volumes, err := in.volumes()
	if err != nil {
		return spec.Launch{}, err
	}
	images, err := in.images()
	if err != nil {
		return spec.Launch{}, err
	}
	l := spec.Launch{
		Version: spec.RecordVersion, SandboxID: in.Sandbox.ID, ContainerID: c.ID, Layout: in.Layout,
		Layers: c.Image.Layers, Volumes: volumes, Images: images, PIDOwner: in.pidOwner(), Hooks: in.CDI.Hooks != nil, LogPath: c.LogPath,
		TTY: c.Request.TTY, Stdin: c.Request.Stdin, StdinOnce: c.Request.StdinOnce,
		CgroupPath: c.CgroupPath, ShimCgroup: in.ShimCgroup,
	}
	if in.userNamespace() {
		l.UserNamespace = in.Layout.Pin(in.Sandbox.ID, "user")
	}
	return l, nil
}

// linux is the Linux part of config.json, but for the propagation of the root.
func (in Input) linux() (*specs.Linux, error) {
	p := in.Container.Profile
	namespaces, err := in.namespaces()
	if err != nil {
		return nil, err
	}
	resources, err := in.resources()
	if err != nil {
		return nil, err
	}
	devices, err := in.devices()
	if err != nil {
		return nil, err
	}
	if in.userNamespace() {
		devices = nil // they are mounts
	}
	uids, gids := in.maps()
	return &specs.Linux{
		UIDMappings:   idMappings(uids),
		GIDMappings:   idMappings(gids),
		CgroupsPath:   in.Container.CgroupPath,
		Namespaces:    namespaces,
		Resources:     resources,
		Devices:       devices,
		Seccomp:       in.Seccomp,
		MaskedPaths:   p.MaskedPaths,
		ReadonlyPaths: p.ReadonlyPaths,
		MountLabel:    p.SELinuxMount,
	}, nil
}

// namespaces are those of the pod, by path; what is left out is the node's. The user namespace has no path here: the
// creator adds launch.json's.
func (in Input) namespaces() ([]specs.LinuxNamespace, error) {
	id := in.Sandbox.ID
	list := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	if in.userNamespace() {
		list = append(list, specs.LinuxNamespace{Type: specs.UserNamespace})
	}
	if in.ownNetwork() {
		list = append(list,
			specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: in.Layout.NetnsPin(id)},
			specs.LinuxNamespace{Type: specs.UTSNamespace, Path: in.Layout.Pin(id, "uts")})
	}
	if in.ownIPC() {
		list = append(list, specs.LinuxNamespace{Type: specs.IPCNamespace, Path: in.Layout.Pin(id, "ipc")})
	}
	if in.CgroupV2 && !in.Container.Profile.Privileged {
		list = append(list, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	return in.pidNamespace(list)
}
