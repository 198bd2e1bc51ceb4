package cri

import (
	"context"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/pkg/cri/translate"
)

// UpdateContainerResources changes limits: all that are asked for, or none.
func (s *runtimeService) UpdateContainerResources(ctx context.Context, r *v1.UpdateContainerResourcesRequest) (*v1.UpdateContainerResourcesResponse, error) {
	id, asked, err := translate.Update(r)
	if err != nil {
		return nil, err
	}
	if err := s.runtime.UpdateContainer(ctx, id, asked); err != nil {
		return nil, err
	}
	return &v1.UpdateContainerResourcesResponse{}, nil
}

// UpdatePodSandboxResources only takes note: the pod's group is the kubelet's.
func (s *runtimeService) UpdatePodSandboxResources(ctx context.Context, r *v1.UpdatePodSandboxResourcesRequest) (*v1.UpdatePodSandboxResourcesResponse, error) {
	id, overhead, resources, err := translate.UpdateSandbox(r)
	if err != nil {
		return nil, err
	}
	if err := s.runtime.UpdateSandbox(ctx, id, overhead, resources); err != nil {
		return nil, err
	}
	return &v1.UpdatePodSandboxResourcesResponse{}, nil
}
