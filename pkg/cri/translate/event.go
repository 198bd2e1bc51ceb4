package translate

import (
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

var eventKinds = map[spec.EventKind]v1.ContainerEventType{
	spec.EventCreated: v1.ContainerEventType_CONTAINER_CREATED_EVENT,
	spec.EventStarted: v1.ContainerEventType_CONTAINER_STARTED_EVENT,
	spec.EventStopped: v1.ContainerEventType_CONTAINER_STOPPED_EVENT,
	spec.EventDeleted: v1.ContainerEventType_CONTAINER_DELETED_EVENT,
}

// Event translates an event: with the whole pod, at the time before which none of it was looked at.
func Event(e spec.Event) *v1.ContainerEventResponse {
	pod := SandboxStatus(e.Sandbox)
	return &v1.ContainerEventResponse{
		ContainerId: e.ID, ContainerEventType: eventKinds[e.Kind], CreatedAt: pod.Timestamp,
		PodSandboxStatus: pod.Status, ContainersStatuses: pod.ContainersStatuses,
	}
}
