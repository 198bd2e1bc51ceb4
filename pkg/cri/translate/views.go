package translate

import (
	"cmp"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

var containerStates = map[spec.ContainerState]v1.ContainerState{
	spec.ContainerCreated: v1.ContainerState_CONTAINER_CREATED,
	spec.ContainerRunning: v1.ContainerState_CONTAINER_RUNNING,
	spec.ContainerExited:  v1.ContainerState_CONTAINER_EXITED,
	spec.ContainerUnknown: v1.ContainerState_CONTAINER_UNKNOWN,
}

func containerState(s spec.ContainerState) v1.ContainerState {
	if state, known := containerStates[s]; known {
		return state
	}
	return v1.ContainerState_CONTAINER_UNKNOWN
}

func sandboxState(s spec.SandboxState) v1.PodSandboxState {
	if s == spec.SandboxReady {
		return v1.PodSandboxState_SANDBOX_READY
	}
	return v1.PodSandboxState_SANDBOX_NOTREADY
}

func metadataBack(m spec.Metadata) *v1.PodSandboxMetadata {
	return &v1.PodSandboxMetadata{Name: m.Name, Uid: m.UID, Namespace: m.Namespace, Attempt: m.Attempt}
}

// SandboxItem translates a sandbox for ListPodSandbox.
func SandboxItem(v spec.SandboxView) *v1.PodSandbox {
	r := v.Spec.Request
	return &v1.PodSandbox{
		Id: v.Spec.ID, Metadata: metadataBack(r.Metadata), State: sandboxState(v.State), CreatedAt: v.Spec.CreatedAt,
		Labels: r.Labels, Annotations: r.Annotations, RuntimeHandler: r.Handler,
	}
}

// SandboxStatus translates a sandbox for PodSandboxStatus, with the statuses of its containers and the time at which
// it was looked at.
func SandboxStatus(v spec.SandboxView) *v1.PodSandboxStatusResponse {
	r := v.Spec.Request
	out := &v1.PodSandboxStatusResponse{
		Status: &v1.PodSandboxStatus{
			Id: v.Spec.ID, Metadata: metadataBack(r.Metadata), State: sandboxState(v.State), CreatedAt: v.Spec.CreatedAt,
			Network: &v1.PodSandboxNetworkStatus{},
			Linux:   &v1.LinuxPodSandboxStatus{Namespaces: &v1.Namespace{Options: namespacesBack(r.Security.Namespaces)}},
			Labels:  r.Labels, Annotations: r.Annotations, RuntimeHandler: r.Handler,
		},
		Timestamp: v.Timestamp.UnixNano(),
	}
	for i, a := range v.Network.Addresses {
		if i == 0 {
			out.Status.Network.Ip = a.IP
			continue
		}
		out.Status.Network.AdditionalIps = append(out.Status.Network.AdditionalIps, &v1.PodIP{Ip: a.IP})
	}
	for _, c := range v.Containers {
		out.ContainersStatuses = append(out.ContainersStatuses, ContainerStatus(c))
	}
	return out
}

// namespacesBack echoes the request: the kubelet makes a pod anew whose network mode differs from what it asked for.
func namespacesBack(n spec.Namespaces) *v1.NamespaceOption {
	out := &v1.NamespaceOption{Network: modeBack(n.Network), Pid: modeBack(n.PID), Ipc: modeBack(n.IPC), TargetId: n.Target}
	if n.User.Mode != spec.NamespaceUnset {
		out.UsernsOptions = &v1.UserNamespace{
			Mode: modeBack(n.User.Mode), Uids: mappingsBack(n.User.UIDs), Gids: mappingsBack(n.User.GIDs),
		}
	}
	return out
}

func modeBack(m spec.NamespaceMode) v1.NamespaceMode {
	for word, mode := range modes {
		if mode == m {
			return word
		}
	}
	return v1.NamespaceMode_POD
}

// ContainerItem translates a container for ListContainers.
func ContainerItem(v spec.ContainerView) *v1.Container {
	s, r := v.Spec, v.Spec.Request
	return &v1.Container{
		Id: s.ID, PodSandboxId: s.SandboxID, Metadata: &v1.ContainerMetadata{Name: r.Name, Attempt: r.Attempt},
		Image: imageBack(s), ImageRef: cmp.Or(s.Image.Ref, s.Image.ID), ImageId: s.Image.ID,
		State: containerState(v.State), CreatedAt: s.CreatedAt, Labels: r.Labels, Annotations: r.Annotations,
	}
}

// imageBack holds what the user asked for.
func imageBack(s spec.Container) *v1.ImageSpec {
	return &v1.ImageSpec{
		Image:              cmp.Or(s.Request.UserImage, s.Image.UserImage, s.Request.Image),
		UserSpecifiedImage: s.Request.UserImage,
	}
}

// ContainerStatus translates a container for ContainerStatus. Times are ns; what has not happened is 0.
func ContainerStatus(v spec.ContainerView) *v1.ContainerStatus {
	s, r := v.Spec, v.Spec.Request
	out := &v1.ContainerStatus{
		Id: s.ID, Metadata: &v1.ContainerMetadata{Name: r.Name, Attempt: r.Attempt},
		State: containerState(v.State), CreatedAt: s.CreatedAt,
		Image: imageBack(s), ImageRef: cmp.Or(s.Image.Ref, s.Image.ID), ImageId: s.Image.ID,
		Labels: r.Labels, Annotations: r.Annotations, Mounts: mountsBack(r.Mounts), LogPath: s.LogPath,
		User: userBack(s.Profile.User), StopSignal: signalBack(s.StopSignal),
	}
	if v.Resources != nil {
		out.Resources = &v1.ContainerResources{Linux: Resources(v.Resources)}
	}
	if v.Facts.Started != nil {
		out.StartedAt = v.Facts.Started.StartedAt
	}
	if end := v.Facts.Ended(); end != nil {
		out.FinishedAt, out.ExitCode = end.FinishedAt, int32(end.Code)
		out.Reason, out.Message = end.Why(), end.Message
	}
	return out
}

func userBack(u spec.User) *v1.ContainerUser {
	linux := &v1.LinuxContainerUser{Uid: int64(u.UID), Gid: int64(u.GID)}
	for _, g := range u.Groups {
		linux.SupplementalGroups = append(linux.SupplementalGroups, int64(g))
	}
	return &v1.ContainerUser{Linux: linux}
}

// Status translates the runtime's status. The default handler "" is always among the handlers.
func Status(s spec.RuntimeStatus) *v1.StatusResponse {
	condition := func(name string, c spec.Condition) *v1.RuntimeCondition {
		return &v1.RuntimeCondition{Type: name, Status: c.OK, Reason: c.Reason, Message: c.Message}
	}
	out := &v1.StatusResponse{
		Status: &v1.RuntimeStatus{Conditions: []*v1.RuntimeCondition{
			condition(v1.RuntimeReady, s.Runtime), condition(v1.NetworkReady, s.Network),
		}},
		Info: s.Info,
		Features: &v1.RuntimeFeatures{
			SupplementalGroupsPolicy: true, // a matter of this program alone: pkg/security does it on every kernel
			MountOptions:             s.Features.MountOptions, UserNamespacesHostNetwork: s.Features.UserNamespacesHostNetwork,
		},
	}
	named := false
	for _, h := range s.Handlers {
		named = named || h.Name == ""
		out.RuntimeHandlers = append(out.RuntimeHandlers, &v1.RuntimeHandler{Name: h.Name, Features: &v1.RuntimeHandlerFeatures{
			RecursiveReadOnlyMounts: h.RecursiveReadonlyMounts, UserNamespaces: h.UserNamespaces,
		}})
	}
	if !named {
		out.RuntimeHandlers = append(out.RuntimeHandlers, &v1.RuntimeHandler{Features: &v1.RuntimeHandlerFeatures{}})
	}
	return out
}
