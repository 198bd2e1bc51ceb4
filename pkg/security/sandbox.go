package security

import (
	"slices"
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
	p, err := userNamespace(s, n)
	if err != nil {
		return spec.SandboxProfile{}, err
	}
	own := sysctl.Own{
		Net: s.Namespaces.Network != spec.NamespaceNode, IPC: s.Namespaces.IPC != spec.NamespaceNode,
	}
	asked, err := sysctl.Check(r.Sysctls, own)
	if err != nil {
		return spec.SandboxProfile{}, err
	}
	p.Sysctls = sysctl.WithDefaults(asked, own, maxGID(p, n))
	labels, err := selinux(s.SELinux, n)
	if err != nil {
		return spec.SandboxProfile{}, err
	}
	p.Reasons = append(p.Reasons, labels...)
	return p, nil
}

func checkPodModes(ns spec.Namespaces) error {
	for _, c := range []struct {
		field string
		mode  spec.NamespaceMode
		ok    []spec.NamespaceMode
	}{
		{"network", ns.Network, []spec.NamespaceMode{spec.NamespacePod, spec.NamespaceNode}},
		{"ipc", ns.IPC, []spec.NamespaceMode{spec.NamespacePod, spec.NamespaceNode}},
		{"pid", ns.PID, []spec.NamespaceMode{spec.NamespacePod, spec.NamespaceContainer, spec.NamespaceNode}},
		{"user", ns.User.Mode, []spec.NamespaceMode{spec.NamespaceUnset, spec.NamespacePod, spec.NamespaceNode}},
	} {
		if !slices.Contains(c.ok, c.mode) {
			return spec.Invalidf("security.namespaces.%s: a sandbox cannot have mode %q", c.field, strings.ToUpper(string(c.mode)))
		}
	}
	return nil
}

func userNamespace(s spec.SandboxSecurity, n Node) (spec.SandboxProfile, error) {
	u := s.Namespaces.User
	if u.Mode != spec.NamespacePod && len(u.UIDs)+len(u.GIDs) > 0 {
		return spec.SandboxProfile{}, spec.Invalidf("security.namespaces.user: id maps are given, and mode POD is not")
	}
	switch u.Mode {
	case spec.NamespaceNode:
		return spec.SandboxProfile{Reasons: []spec.Reason{{Field: "security.namespaces.user", Text: "the pod asked for the node's user namespace"}}}, nil
	case spec.NamespacePod:
		return askedUserNamespace(s, n)
	}
	var reasons []spec.Reason
	for _, e := range podExcuses {
		if e.applies(s) {
			reasons = append(reasons, spec.Reason{Field: e.field, Text: e.why})
		}
	}
	return spec.SandboxProfile{UserNamespace: len(reasons) == 0, Reasons: reasons}, nil
}

// askedUserNamespace: what would excuse a pod refuses it here, but for the node's network on a kernel where both go
// together. The pod has no power over that network then: its capabilities are those of its own user namespace.
func askedUserNamespace(s spec.SandboxSecurity, n Node) (spec.SandboxProfile, error) {
	u := s.Namespaces.User
	for _, e := range podExcuses {
		both := e.field == "security.privileged" || e.field == "security.namespaces.network" && n.UserNamespacesHostNetwork
		if !both && e.applies(s) {
			return spec.SandboxProfile{}, spec.Invalidf("%s: the pod asked for a user namespace of its own, and %s", e.field, e.why)
		}
	}
	p := spec.SandboxProfile{UserNamespace: true, UIDs: u.UIDs, GIDs: u.GIDs}
	if s.Namespaces.Network == spec.NamespaceNode {
		p.Reasons = []spec.Reason{{Field: "security.namespaces.network",
			Text: "on the node's network, as it asked, with ids of its own: it reaches what listens on the node, and has no capability over the network"}}
	}
	if len(u.UIDs) == 0 && len(u.GIDs) == 0 {
		return p, nil
	}
	if err := idmap.CheckMaps("uid", u.UIDs); err != nil {
		return spec.SandboxProfile{}, err
	}
	if err := idmap.CheckMaps("gid", u.GIDs); err != nil {
		return spec.SandboxProfile{}, err
	}
	return p, nil
}

// maxGID is the highest of the group ids that are mapped from 0 on: a range that ends elsewhere is refused by the kernel,
// or covers groups of others.
func maxGID(p spec.SandboxProfile, n Node) uint32 {
	switch {
	case !p.UserNamespace:
		return 1<<31 - 1
	case len(p.GIDs) == 0:
		return n.poolSize() - 1
	}
	return max(idmap.RootSpan(p.GIDs), 1) - 1
}
