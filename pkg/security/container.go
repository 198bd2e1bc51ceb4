package security

import (
	"fmt"
	"io"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/security/capability"
	"github.com/runtimed/runtimed/pkg/security/idmap"
	"github.com/runtimed/runtimed/pkg/security/passwd"
)

// ContainerInput is what ResolveContainer decides on.
type ContainerInput struct {
	Request spec.ContainerRequest
	Sandbox spec.Sandbox // as recorded, with its id maps
	Image   spec.ImageConfig
	// Passwd and Group are the image's files; nil is a file that is not there.
	Passwd, Group io.Reader
	// Target is the running container of the same pod whose PID namespace is to be shared (mode TARGET); nil where it is
	// not there.
	Target *spec.Container
	// NotIDMappable says why a mount cannot be seen through the pod's user namespace, or nil. It is asked only where
	// that matters. A nil func is a node where every mount can.
	NotIDMappable func(m spec.Mount) error
}

// ResolveContainer decides what a container may do. InvalidArgument names the field that cannot be served, and why;
// FailedPrecondition what this node lacks for it; NotImplemented what this release lacks.
func ResolveContainer(in ContainerInput, n Node) (spec.Profile, error) {
	s := in.Request.Security
	if err := checkModes(s.Namespaces, in.Sandbox); err != nil {
		return spec.Profile{}, err
	}
	if err := checkTarget(in); err != nil {
		return spec.Profile{}, err
	}
	file, err := passwd.Read(in.Passwd, in.Group)
	if err != nil {
		return spec.Profile{}, err
	}
	who, err := resolveUser(s, in.Image.User, file)
	if err != nil {
		return spec.Profile{}, err
	}
	p := spec.Profile{
		User: who.user, NoNewPrivileges: s.NoNewPrivileges, Privileged: s.Privileged, ReadonlyRoot: s.ReadonlyRootfs,
		Rlimits: n.Rlimits,
	}
	if err := place(&p, in, who); err != nil {
		return spec.Profile{}, err
	}
	if t := in.Target; t != nil {
		p.Reasons = append(p.Reasons, spec.Reason{Field: "security.namespaces.target",
			Text: fmt.Sprintf("sees the processes of container %s, and may trace those that have no more rights than its own", t.ID)})
	}
	for _, decide := range []func(*spec.Profile, ContainerInput, Node) error{capabilities, profiles, paths, mounts, oomScore} {
		if err := decide(&p, in, n); err != nil {
			return spec.Profile{}, err
		}
	}
	return p, nil
}

// checkModes: a container lives in its pod's namespaces. POD is "whatever the pod has", because the CRI cannot tell it
// from an unset mode; the node's in place of the pod's own is refused, but for the PID namespace, which each container
// may choose.
func checkModes(ns spec.Namespaces, sb spec.Sandbox) error {
	pod := sb.Request.Security.Namespaces
	for _, c := range []struct {
		field     string
		mode, own spec.NamespaceMode
	}{{"network", ns.Network, pod.Network}, {"ipc", ns.IPC, pod.IPC}} {
		switch {
		case c.mode == spec.NamespacePod || c.mode == spec.NamespaceUnset || c.mode == spec.NamespaceNode && c.own == spec.NamespaceNode:
		case c.mode == spec.NamespaceNode:
			return spec.Invalidf("security.namespaces.%s: the container asks for the node's, and its pod has its own", c.field)
		default:
			return spec.Invalidf("security.namespaces.%s: mode %q is not possible", c.field, c.mode)
		}
	}
	switch ns.PID {
	case spec.NamespacePod, spec.NamespaceUnset, spec.NamespaceContainer, spec.NamespaceNode, spec.NamespaceTarget:
	default:
		return spec.Invalidf("security.namespaces.pid: mode %q is not possible", ns.PID)
	}
	return checkUserMode(ns.User, sb.Profile)
}

// checkTarget: whoever shares a container's PID namespace sees its processes, and with CAP_SYS_PTRACE, or as the same
// user with no more capabilities than its own, may trace them (ptrace(2)). That is what was asked, and it ends at the pod.
func checkTarget(in ContainerInput) error {
	const field = "security.namespaces.target"
	if in.Request.Security.Namespaces.PID != spec.NamespaceTarget {
		return nil
	}
	switch t := in.Target; {
	case t == nil:
		return spec.Preconditionf("%s: container %.64q does not run", field, in.Request.Security.Namespaces.Target)
	case t.SandboxID != in.Sandbox.ID:
		return spec.Invalidf("%s: container %s is of another pod, whose processes are not for this one", field, t.ID)
	}
	return nil
}

func checkUserMode(u spec.UserNamespace, pod spec.SandboxProfile) error {
	const field = "security.namespaces.user"
	given := len(u.UIDs)+len(u.GIDs) > 0
	switch u.Mode {
	case spec.NamespaceUnset, spec.NamespaceNode:
		if given {
			return spec.Invalidf("%s: id maps are given, and the mode is not POD", field)
		}
	case spec.NamespacePod:
		if !pod.UserNamespace {
			return spec.Invalidf("%s: the container asks for the pod's, and the pod has none", field)
		}
		if given && (!idmap.Equal(u.UIDs, pod.UIDs) || !idmap.Equal(u.GIDs, pod.GIDs)) {
			return spec.Invalidf("%s: the container's id maps are not its pod's", field)
		}
	default:
		return spec.Invalidf("%s: mode %q is not possible", field, u.Mode)
	}
	return nil
}

func onNode(p *spec.Profile, in ContainerInput) bool {
	return p.HostIDs || !in.Sandbox.Profile.UserNamespace
}

func capabilities(p *spec.Profile, in ContainerInput, n Node) (err error) {
	c := in.Request.Security.Capabilities
	p.Capabilities, err = capability.Resolve(capability.Request{
		Default: n.defaultCapabilities(), Held: n.HeldCapabilities, Change: c,
		Privileged: p.Privileged, Root: p.User.UID == 0, UserNamespace: !onNode(p, in),
	})
	if err == nil && p.Privileged && len(c.Add)+len(c.Drop) > 0 {
		p.Reasons = append(p.Reasons, spec.Reason{Field: "security.capabilities", Text: "a privileged container has every capability that the runtime holds: add and drop have no effect"})
	}
	return err
}

// profiles are those of the kernel's other guards.
func profiles(p *spec.Profile, in ContainerInput, n Node) error {
	s := in.Request.Security
	var more, other []spec.Reason
	var err error
	if p.Seccomp, more, err = seccompProfile(s, n); err != nil {
		return err
	}
	if p.AppArmor, other, err = appArmorProfile(s, n); err != nil {
		return err
	}
	labels, err := selinux(s.SELinux, n)
	if err != nil {
		return err
	}
	p.Reasons = append(append(append(p.Reasons, more...), other...), labels...)
	return nil
}

func paths(p *spec.Profile, in ContainerInput, n Node) error {
	asked := in.Sandbox.Request.Security.Namespaces.User.Mode == spec.NamespacePod
	return protect(p, in.Request.Security, n, asked && !onNode(p, in))
}

// mounts refuses what this kernel would only half do. The message of a recursive read-only mount begins with cri-api's
// ErrRROUnsupported.
func mounts(_ *spec.Profile, in ContainerInput, n Node) error {
	if n.MountAttr {
		return nil
	}
	for i, m := range in.Request.Mounts {
		switch {
		case m.RecursiveReadonly:
			return spec.Preconditionf("RROUnsupported: mounts[%d].recursive_read_only: this kernel cannot make a mount read-only with all below it (Linux 5.12 can)", i)
		case len(m.Options) > 0:
			return spec.Preconditionf("mounts[%d].mount_options: this kernel cannot change a mount with all below it (Linux 5.12 can)", i)
		}
	}
	return nil
}

// oomScore is the request's, as low as this daemon may set it.
func oomScore(p *spec.Profile, in ContainerInput, n Node) error {
	r := in.Request.Resources
	if r == nil {
		return nil
	}
	if r.OOMScoreAdj < -1000 || r.OOMScoreAdj > 1000 {
		return spec.Invalidf("resources.oom_score_adj: %d is not from -1000 to 1000", r.OOMScoreAdj)
	}
	score := max(int(r.OOMScoreAdj), n.MinOOMScoreAdj)
	if score != int(r.OOMScoreAdj) {
		p.Reasons = append(p.Reasons, spec.Reason{Field: "resources.oom_score_adj",
			Text: fmt.Sprintf("%d became %d: without CAP_SYS_RESOURCE the runtime cannot give less", r.OOMScoreAdj, score)})
	}
	p.OOMScoreAdj = &score
	return nil
}
