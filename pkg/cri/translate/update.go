package translate

import (
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Update translates UpdateContainerResources. Zero fields leave things as they are.
func Update(r *v1.UpdateContainerResourcesRequest) (id string, asked spec.Resources, err error) {
	var c check
	id = c.id("container_id", r.GetContainerId())
	if out := c.resources("linux", r.GetLinux()); out != nil {
		asked = *out
	}
	return id, asked, c.err
}

// UpdateSandbox translates UpdatePodSandboxResources; nil says nothing.
func UpdateSandbox(r *v1.UpdatePodSandboxResourcesRequest) (id string, overhead, resources *spec.Resources, err error) {
	var c check
	id = c.id("pod_sandbox_id", r.GetPodSandboxId())
	overhead = c.resources("overhead", r.GetOverhead())
	resources = c.resources("resources", r.GetResources())
	return id, overhead, resources, c.err
}
