package cri

import (
	"context"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/pkg/cri/translate"
)

func (s *runtimeService) CreateContainer(ctx context.Context, r *v1.CreateContainerRequest) (*v1.CreateContainerResponse, error) {
	sandboxID, req, err := translate.Container(r)
	if err != nil {
		return nil, err
	}
	id, err := s.runtime.CreateContainer(ctx, sandboxID, req)
	if err != nil {
		return nil, err
	}
	return &v1.CreateContainerResponse{ContainerId: id}, nil
}

func (s *runtimeService) StartContainer(ctx context.Context, r *v1.StartContainerRequest) (*v1.StartContainerResponse, error) {
	id, err := translate.ContainerID(r)
	if err != nil {
		return nil, err
	}
	if err := s.runtime.StartContainer(ctx, id); err != nil {
		return nil, err
	}
	return &v1.StartContainerResponse{}, nil
}

// StopContainer: what is not there is stopped.
func (s *runtimeService) StopContainer(ctx context.Context, r *v1.StopContainerRequest) (*v1.StopContainerResponse, error) {
	id, timeout, err := translate.Stop(r)
	if err != nil {
		return nil, err
	}
	if err := s.runtime.StopContainer(ctx, id, timeout); err != nil && !missing(err) {
		return nil, err
	}
	return &v1.StopContainerResponse{}, nil
}

// RemoveContainer: what is not there is removed.
func (s *runtimeService) RemoveContainer(ctx context.Context, r *v1.RemoveContainerRequest) (*v1.RemoveContainerResponse, error) {
	id, err := translate.ContainerID(r)
	if err != nil {
		return nil, err
	}
	if err := s.runtime.RemoveContainer(ctx, id); err != nil && !missing(err) {
		return nil, err
	}
	return &v1.RemoveContainerResponse{}, nil
}

func (s *runtimeService) ContainerStatus(ctx context.Context, r *v1.ContainerStatusRequest) (*v1.ContainerStatusResponse, error) {
	id, err := translate.ContainerID(r)
	if err != nil {
		return nil, err
	}
	view, err := s.runtime.Container(ctx, id)
	if err != nil {
		return nil, err
	}
	out := &v1.ContainerStatusResponse{Status: translate.ContainerStatus(view)}
	if r.GetVerbose() {
		out.Info, err = translate.ContainerInfo(view, s.configOf(view.Spec.SandboxID, view.Spec.ID))
	}
	return out, err
}

// configOf is for a person who looks: a config.json that is not there, or is not readable, is left out.
func (s *runtimeService) configOf(sandboxID, containerID string) []byte {
	if s.runtimeSpec == nil {
		return nil
	}
	b, err := s.runtimeSpec(sandboxID, containerID)
	if err != nil {
		return nil
	}
	return b
}

func (s *runtimeService) ListContainers(ctx context.Context, r *v1.ListContainersRequest) (*v1.ListContainersResponse, error) {
	filter, err := translate.ContainerFilter(r.GetFilter())
	if err != nil {
		return nil, err
	}
	views, err := s.runtime.Containers(ctx, filter)
	if err != nil {
		return nil, err
	}
	out := &v1.ListContainersResponse{}
	for _, v := range views {
		out.Containers = append(out.Containers, translate.ContainerItem(v))
	}
	return out, nil
}

func (s *runtimeService) ReopenContainerLog(ctx context.Context, r *v1.ReopenContainerLogRequest) (*v1.ReopenContainerLogResponse, error) {
	id, err := translate.ContainerID(r)
	if err != nil {
		return nil, err
	}
	if err := s.runtime.ReopenLog(ctx, id); err != nil {
		return nil, err
	}
	return &v1.ReopenContainerLogResponse{}, nil
}

func (s *runtimeService) ExecSync(ctx context.Context, r *v1.ExecSyncRequest) (*v1.ExecSyncResponse, error) {
	req, err := translate.Exec(r)
	if err != nil {
		return nil, err
	}
	res, err := s.runtime.ExecSync(ctx, req)
	if err != nil {
		return nil, err
	}
	return translate.ExecResult(res, MaxMessage), nil
}
