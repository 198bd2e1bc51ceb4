package cri

import (
	"context"
	"maps"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/pkg/cri/translate"
)

// runtimeService serves v1.RuntimeService. What it lacks is in notServed.
type runtimeService struct {
	v1.UnimplementedRuntimeServiceServer
	runtime     Runtime
	version     string
	info        map[string]string
	leaving     context.Context // ends when the server is told to stop
	runtimeSpec func(sandboxID, containerID string) ([]byte, error)
	streaming   Streaming

	systemdCgroups bool
}

// Version: a kubelet refuses a blank field. version is the kubelet's own API version, which never changed.
func (s *runtimeService) Version(context.Context, *v1.VersionRequest) (*v1.VersionResponse, error) {
	return &v1.VersionResponse{
		Version: "0.1.0", RuntimeName: "runtimed", RuntimeVersion: s.version, RuntimeApiVersion: "v1",
	}, nil
}

func (s *runtimeService) Status(ctx context.Context, r *v1.StatusRequest) (*v1.StatusResponse, error) {
	status := s.runtime.Status(ctx, r.GetVerbose())
	if r.GetVerbose() {
		status.Info = maps.Clone(status.Info)
		maps.Copy(status.Info, s.info)
	}
	return translate.Status(status), nil
}

// RuntimeConfig must name the driver: the enum's zero would claim systemd.
func (s *runtimeService) RuntimeConfig(context.Context, *v1.RuntimeConfigRequest) (*v1.RuntimeConfigResponse, error) {
	driver := v1.CgroupDriver_CGROUPFS
	if s.systemdCgroups {
		driver = v1.CgroupDriver_SYSTEMD
	}
	return &v1.RuntimeConfigResponse{Linux: &v1.LinuxRuntimeConfiguration{CgroupDriver: driver}}, nil
}

func (s *runtimeService) RunPodSandbox(ctx context.Context, r *v1.RunPodSandboxRequest) (*v1.RunPodSandboxResponse, error) {
	req, err := translate.Sandbox(r)
	if err != nil {
		return nil, err
	}
	id, err := s.runtime.RunSandbox(ctx, req)
	if err != nil {
		return nil, err
	}
	return &v1.RunPodSandboxResponse{PodSandboxId: id}, nil
}

// StopPodSandbox: what is not there is stopped.
func (s *runtimeService) StopPodSandbox(ctx context.Context, r *v1.StopPodSandboxRequest) (*v1.StopPodSandboxResponse, error) {
	id, err := translate.SandboxID(r)
	if err != nil {
		return nil, err
	}
	if err := s.runtime.StopSandbox(ctx, id); err != nil && !missing(err) {
		return nil, err
	}
	return &v1.StopPodSandboxResponse{}, nil
}

// RemovePodSandbox: what is not there is removed.
func (s *runtimeService) RemovePodSandbox(ctx context.Context, r *v1.RemovePodSandboxRequest) (*v1.RemovePodSandboxResponse, error) {
	id, err := translate.SandboxID(r)
	if err != nil {
		return nil, err
	}
	if err := s.runtime.RemoveSandbox(ctx, id); err != nil && !missing(err) {
		return nil, err
	}
	return &v1.RemovePodSandboxResponse{}, nil
}

// PodSandboxStatus: what is not there is NotFound, which the kubelet skips; any other code fails its sync.
func (s *runtimeService) PodSandboxStatus(ctx context.Context, r *v1.PodSandboxStatusRequest) (*v1.PodSandboxStatusResponse, error) {
	id, err := translate.SandboxID(r)
	if err != nil {
		return nil, err
	}
	view, err := s.runtime.Sandbox(ctx, id)
	if err != nil {
		return nil, err
	}
	out := translate.SandboxStatus(view)
	if r.GetVerbose() {
		out.Info, err = translate.SandboxInfo(view)
	}
	return out, err
}

func (s *runtimeService) ListPodSandbox(ctx context.Context, r *v1.ListPodSandboxRequest) (*v1.ListPodSandboxResponse, error) {
	filter, err := translate.SandboxFilter(r.GetFilter())
	if err != nil {
		return nil, err
	}
	views, err := s.runtime.Sandboxes(ctx, filter)
	if err != nil {
		return nil, err
	}
	out := &v1.ListPodSandboxResponse{}
	for _, v := range views {
		out.Items = append(out.Items, translate.SandboxItem(v))
	}
	return out, nil
}
