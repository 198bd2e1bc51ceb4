package security

import (
	"fmt"
	"io"

	"github.com/containerd/errdefs"

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
	// NotIDMappable says why a mount cannot be seen through the pod's user namespace, or nil. It is asked only where
	// that matters. A nil func is a node where every mount can.
	NotIDMappable func(m spec.Mount) error
}

// containerExcuses is the whole list of what takes a container out of its pod's user namespace, into the node's ids
// inside the pod's other namespaces. Each returns the reason, or "". Only requests count: nothing that an image says
// is here. None counts against a pod that asked for its user namespace itself: then the request is refused.
var containerExcuses = []struct {
	field string
	why   func(in ContainerInput, who identity) string
}{
	{"security.privileged", func(in ContainerInput, _ identity) string {
		return when(in.Request.Security.Privileged, "a privileged container is there to change the node")
	}},
	{"security.namespaces.user", func(in ContainerInput, _ identity) string {
		return when(in.Request.Security.Namespaces.User.Mode == spec.NamespaceNode, "the container asks for the node's user namespace")
	}},
	{"security.namespaces.pid", func(in ContainerInput, _ identity) string {
		return when(in.Request.Security.Namespaces.PID == spec.NamespaceNode, "the node's processes belong to the node's user namespace")
	}},
	{"devices", func(in ContainerInput, _ identity) string {
		return when(len(in.Request.Devices) > 0, "the node's devices belong to the node's root")
	}},
	{"mounts", func(in ContainerInput, _ identity) string {
		for _, m := range in.Request.Mounts {
			if m.Propagation == spec.PropagationBidirectional {
				return fmt.Sprintf("what is mounted at %q must reach the node, which takes no mounts from a user namespace", m.ContainerPath)
			}
		}
		return ""
	}},
	{"mounts", func(in ContainerInput, _ identity) string {
		for _, m := range in.Request.Mounts {
			if in.NotIDMappable == nil {
				break
			}
			if err := in.NotIDMappable(m); err != nil {
				return fmt.Sprintf("the volume at %q cannot be idmapped: %v", m.ContainerPath, err)
			}
		}
		return ""
	}},
	{"security.run_as_user", func(in ContainerInput, who identity) string {
		return when(who.uidAsked && !idmap.Mapped(in.Sandbox.Profile.UIDs, who.user.UID),
			fmt.Sprintf("user %d is not one of the pod's user namespace", who.user.UID))
	}},
	{"security.run_as_group", func(in ContainerInput, who identity) string {
		return when(who.gidAsked && !idmap.Mapped(in.Sandbox.Profile.GIDs, who.user.GID),
			fmt.Sprintf("group %d is not one of the pod's user namespace", who.user.GID))
	}},
	{"security.supplemental_groups", func(in ContainerInput, _ identity) string {
		for _, g := range in.Request.Security.SupplementalGroups {
			if !idmap.Mapped(in.Sandbox.Profile.GIDs, uint32(g)) {
				return fmt.Sprintf("group %d is not one of the pod's user namespace", g)
			}
		}
		return ""
	}},
}

func when(applies bool, why string) string {
	if applies {
		return why
	}
	return ""
}

// ResolveContainer decides what a container may do. InvalidArgument names the field that cannot be served, and why;
// FailedPrecondition what this node lacks for it; NotImplemented what this release lacks.
func ResolveContainer(in ContainerInput, n Node) (spec.Profile, error) {
	s := in.Request.Security
	if err := checkModes(s.Namespaces, in.Sandbox); err != nil {
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
	for _, decide := range []func(*spec.Profile, ContainerInput, Node) error{capabilities, profiles, paths, oomScore} {
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
	case spec.NamespacePod, spec.NamespaceUnset, spec.NamespaceContainer, spec.NamespaceNode:
	case spec.NamespaceTarget:
		return spec.Errorf(errdefs.ErrNotImplemented, "security.namespaces.pid: mode TARGET is not served yet")
	default:
		return spec.Invalidf("security.namespaces.pid: mode %q is not possible", ns.PID)
	}
	return checkUserMode(ns.User, sb.Profile)
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

// place decides whose ids the container has.
func place(p *spec.Profile, in ContainerInput, who identity) error {
	if !in.Sandbox.Profile.UserNamespace {
		return nil
	}
	for _, e := range containerExcuses {
		why := e.why(in, who)
		if why == "" {
			continue
		}
		if in.Sandbox.Request.Security.Namespaces.User.Mode == spec.NamespacePod {
			return spec.Invalidf("%s: %s, and the pod asked for a user namespace of its own", e.field, why)
		}
		p.HostIDs = true
		p.Reasons = append(p.Reasons, spec.Reason{Field: e.field, Text: "runs with the node's ids: " + why})
	}
	if p.HostIDs {
		return nil
	}
	return imageIDs(p, in, who)
}

// imageIDs: what the image chose must fit into the user namespace; it is no excuse to leave it.
func imageIDs(p *spec.Profile, in ContainerInput, who identity) error {
	pod := in.Sandbox.Profile
	if u := who.user; !idmap.Mapped(pod.UIDs, u.UID) || !idmap.Mapped(pod.GIDs, u.GID) {
		return spec.Invalidf("user %d with group %d, as the image has them, does not fit into the pod's user namespace: "+
			"set run_as_user and run_as_group, or mode NODE for the pod's user namespace", u.UID, u.GID)
	}
	var outside []uint32
	for _, g := range who.imageGroups {
		if !idmap.Mapped(pod.GIDs, g) {
			outside = append(outside, g)
		}
	}
	if len(outside) > 0 {
		p.User.Groups = without(p.User.Groups, outside)
		p.Reasons = append(p.Reasons, spec.Reason{Field: "security.supplemental_groups",
			Text: fmt.Sprintf("%d groups of the image's /etc/group are left out, because the pod's user namespace does not have them", len(outside))})
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

// Excuses lists the fields that take a container out of its pod's user namespace, for documentation.
func Excuses() (pod, container []string) {
	for _, e := range podExcuses {
		pod = append(pod, e.field)
	}
	for _, e := range containerExcuses {
		if len(container) == 0 || container[len(container)-1] != e.field {
			container = append(container, e.field)
		}
	}
	return pod, container
}
