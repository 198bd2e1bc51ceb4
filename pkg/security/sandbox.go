package security

import (
	"strings"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/security/idmap"
	"github.com/runtimed/runtimed/pkg/security/sysctl"
)

// podExcuses is the whole list of what lets a pod do without a user namespace that did not refuse one: each needs the
// node's own ids to mean anything.
var podExcuses = []struct {
	field, why string
	applies    func(spec.SandboxSecurity) bool
}{
	{"security.privileged", "a privileged pod is there to change the node",
		func(s spec.SandboxSecurity) bool { return s.Privileged }},
	{"security.namespaces.network", "the node's network belongs to the node's user namespace",
		func(s spec.SandboxSecurity) bool { return s.Namespaces.Network == spec.NamespaceNode }},
	{"security.namespaces.pid", "the node's processes belong to the node's user namespace",
		func(s spec.SandboxSecurity) bool { return s.Namespaces.PID == spec.NamespaceNode }},
	{"security.namespaces.ipc", "the node's System V objects belong to the node's user namespace",
		func(s spec.SandboxSecurity) bool { return s.Namespaces.IPC == spec.NamespaceNode }},
}

// ResolveSandbox decides whether the pod has a user namespace, with which maps (none yet where the node's pool is to
// give them), and which kernel parameters it gets.
func ResolveSandbox(r spec.SandboxRequest, n Node) (spec.SandboxProfile, error) {
	s := r.Security
	if err := checkPodModes(s.Namespaces); err != nil {
		return spec.SandboxProfile{}, err
	}
	if s.RunAsGroup != nil && s.RunAsUser == nil {
		return spec.SandboxProfile{}, spec.Invalidf("security.run_as_group is set without run_as_user")
	}
	p, err := userNamespace(s)
	if err != nil {
		return p, err
	}
	own := sysctl.Own{
		Net: s.Namespaces.Network != spec.NamespaceNode, IPC: s.Namespaces.IPC != spec.NamespaceNode,
		UTS: s.Namespaces.Network != spec.NamespaceNode,
	}
	asked, err := sysctl.Check(r.Sysctls, own)
	if err != nil {
		return p, err
	}
	p.Sysctls = sysctl.WithDefaults(asked, own, maxGID(p, n))
	p.Reasons = append(p.Reasons, ignoredSELinux(s.SELinux, n)...)
	if s.SELinux != (spec.SELinuxOptions{}) && n.SELinux {
		return p, errSELinux
	}
	return p, nil
}

var errSELinux = spec.Preconditionf("SELinux options are not served on a node with SELinux yet: leave security.selinux_options out")

func checkPodModes(ns spec.Namespaces) error {
	for _, c := range []struct {
		field string
		mode  spec.NamespaceMode
		ok    []spec.NamespaceMode
	}{
		{"network", ns.Network, []spec.NamespaceMode{spec.NamespacePod, spec.NamespaceNode}},
		{"ipc", ns.IPC, []spec.NamespaceMode{spec.NamespacePod, spec.NamespaceNode}},
		{"pid", ns.PID, []spec.NamespaceMode{spec.NamespacePod, spec.NamespaceContainer, spec.NamespaceNode}},
		{"userns", ns.User.Mode, []spec.NamespaceMode{spec.NamespaceUnset, spec.NamespacePod, spec.NamespaceNode}},
	} {
		if !oneOf(c.mode, c.ok) {
			return spec.Invalidf("security.namespace_options.%s: a sandbox cannot have mode %q", c.field, strings.ToUpper(string(c.mode)))
		}
	}
	return nil
}

func oneOf(m spec.NamespaceMode, list []spec.NamespaceMode) bool {
	for _, o := range list {
		if m == o {
			return true
		}
	}
	return false
}

func userNamespace(s spec.SandboxSecurity) (spec.SandboxProfile, error) {
	u := s.Namespaces.User
	if u.Mode != spec.NamespacePod && len(u.UIDs)+len(u.GIDs) > 0 {
		return spec.SandboxProfile{}, spec.Invalidf("security.namespace_options.userns_options: id maps are given, and mode POD is not")
	}
	switch u.Mode {
	case spec.NamespaceNode:
		return spec.SandboxProfile{Reasons: []spec.Reason{{Field: "security.namespaces.user", Text: "the pod asked for the node's user namespace"}}}, nil
	case spec.NamespacePod:
		return askedUserNamespace(s)
	}
	var reasons []spec.Reason
	for _, e := range podExcuses {
		if e.applies(s) {
			reasons = append(reasons, spec.Reason{Field: e.field, Text: e.why})
		}
	}
	return spec.SandboxProfile{UserNamespace: len(reasons) == 0, Reasons: reasons}, nil
}

func askedUserNamespace(s spec.SandboxSecurity) (spec.SandboxProfile, error) {
	u := s.Namespaces.User
	for _, e := range podExcuses {
		if e.field != "security.privileged" && e.applies(s) {
			return spec.SandboxProfile{}, spec.Invalidf("%s: the pod asked for a user namespace of its own, and %s", e.field, e.why)
		}
	}
	if len(u.UIDs) == 0 && len(u.GIDs) == 0 {
		return spec.SandboxProfile{UserNamespace: true}, nil
	}
	if err := idmap.CheckMaps("uid", u.UIDs); err != nil {
		return spec.SandboxProfile{}, err
	}
	if err := idmap.CheckMaps("gid", u.GIDs); err != nil {
		return spec.SandboxProfile{}, err
	}
	return spec.SandboxProfile{UserNamespace: true, UIDs: u.UIDs, GIDs: u.GIDs}, nil
}

// maxGID is the highest group id that the pod will have.
func maxGID(p spec.SandboxProfile, n Node) uint32 {
	switch {
	case !p.UserNamespace:
		return 1<<31 - 1
	case len(p.GIDs) == 0:
		return n.PoolSize - 1
	}
	var top uint32
	for _, m := range p.GIDs {
		top = max(top, m.ContainerID+(m.Size-1))
	}
	return top
}

func ignoredSELinux(o spec.SELinuxOptions, n Node) []spec.Reason {
	if o == (spec.SELinuxOptions{}) || n.SELinux {
		return nil
	}
	return []spec.Reason{{Field: "security.selinux_options", Text: "ignored: this kernel has no SELinux"}}
}
