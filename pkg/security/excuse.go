package security

import (
	"fmt"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/security/idmap"
)

// containerExcuses is the whole list of what takes a container out of its pod's user namespace, into the node's ids
// inside the pod's other namespaces. Each returns the reason, or "". Only requests count: nothing that an image says
// is here. None counts against a pod that asked for its user namespace itself: then the request is refused, but for what
// is in shared.
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
	{"security.namespaces.target", func(in ContainerInput, _ identity) string {
		return when(in.Target != nil && in.Target.Profile.HostIDs, "its target's processes belong to the node's user namespace")
	}},
	{"devices", func(in ContainerInput, _ identity) string {
		return when(len(in.Request.Devices) > 0, "the node's devices belong to the node's root")
	}},
	{"CDI_devices", func(in ContainerInput, _ identity) string {
		return when(len(in.Request.CDIDevices) > 0, "the devices, files and hooks of the node's CDI files belong to the node's root")
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
			if m.Image != "" {
				continue // its layers are the store's, which a pod's map always covers
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

// shared are the excuses that a pod which asked for its user namespace can have inside it, and what they come to there.
var shared = map[string]string{
	"devices":     "the devices keep their owners, who are nobody inside: only those that let everybody in can be opened",
	"CDI_devices": "their devices and files keep their owners, who are nobody inside: only what lets everybody in can be opened",
}

func when(applies bool, why string) string {
	if applies {
		return why
	}
	return ""
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
			if less, ok := shared[e.field]; ok {
				p.Reasons = append(p.Reasons, spec.Reason{Field: e.field, Text: less})
				continue
			}
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
