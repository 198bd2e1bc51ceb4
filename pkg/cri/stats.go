package cri

import (
	"context"
	"slices"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/pkg/cri/translate"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Stats is what the door needs to tell what containers and sandboxes use. Lists leave out what cannot be read.
type Stats interface {
	ContainerStats(ctx context.Context, id string) (spec.ContainerStats, error)
	// ListContainerStats tells of running containers alone.
	ListContainerStats(ctx context.Context, f spec.ContainerFilter) ([]spec.ContainerStats, error)
	SandboxStats(ctx context.Context, id string) (spec.SandboxStats, error)
	// ListSandboxStats tells of ready sandboxes alone.
	ListSandboxStats(ctx context.Context, f spec.SandboxFilter) ([]spec.SandboxStats, error)
	// SandboxMetrics is ListSandboxStats of all, with the details that only metrics tell.
	SandboxMetrics(ctx context.Context) ([]spec.SandboxStats, error)
}

// ContainerStats: a container that does not run is no error; it has a writable layer.
func (s *runtimeService) ContainerStats(ctx context.Context, r *v1.ContainerStatsRequest) (*v1.ContainerStatsResponse, error) {
	id, err := translate.ContainerID(r)
	if err != nil {
		return nil, err
	}
	stats, err := s.runtime.ContainerStats(ctx, id)
	if err != nil {
		return nil, err
	}
	return &v1.ContainerStatsResponse{Stats: translate.ContainerStats(stats)}, nil
}

func (s *runtimeService) ListContainerStats(ctx context.Context, r *v1.ListContainerStatsRequest) (*v1.ListContainerStatsResponse, error) {
	all, err := s.containerStats(ctx, r.GetFilter())
	if err != nil {
		return nil, err
	}
	return &v1.ListContainerStatsResponse{Stats: slices.Collect(each(all, translate.ContainerStats))}, nil
}

func (s *runtimeService) StreamContainerStats(r *v1.StreamContainerStatsRequest, out v1.RuntimeService_StreamContainerStatsServer) error {
	all, err := s.containerStats(out.Context(), r.GetFilter())
	if err != nil {
		return err
	}
	return inChunks(each(all, translate.ContainerStats), func(part []*v1.ContainerStats) error {
		return out.Send(&v1.StreamContainerStatsResponse{ContainerStats: part})
	})
}

func (s *runtimeService) containerStats(ctx context.Context, f *v1.ContainerStatsFilter) ([]spec.ContainerStats, error) {
	filter, err := translate.ContainerStatsFilter(f)
	if err != nil {
		return nil, err
	}
	return s.runtime.ListContainerStats(ctx, filter)
}

func (s *runtimeService) PodSandboxStats(ctx context.Context, r *v1.PodSandboxStatsRequest) (*v1.PodSandboxStatsResponse, error) {
	id, err := translate.SandboxID(r)
	if err != nil {
		return nil, err
	}
	stats, err := s.runtime.SandboxStats(ctx, id)
	if err != nil {
		return nil, err
	}
	return &v1.PodSandboxStatsResponse{Stats: translate.SandboxStats(stats)}, nil
}

func (s *runtimeService) ListPodSandboxStats(ctx context.Context, r *v1.ListPodSandboxStatsRequest) (*v1.ListPodSandboxStatsResponse, error) {
	all, err := s.sandboxStats(ctx, r.GetFilter())
	if err != nil {
		return nil, err
	}
	return &v1.ListPodSandboxStatsResponse{Stats: slices.Collect(each(all, translate.SandboxStats))}, nil
}

func (s *runtimeService) StreamPodSandboxStats(r *v1.StreamPodSandboxStatsRequest, out v1.RuntimeService_StreamPodSandboxStatsServer) error {
	all, err := s.sandboxStats(out.Context(), r.GetFilter())
	if err != nil {
		return err
	}
	return inChunks(each(all, translate.SandboxStats), func(part []*v1.PodSandboxStats) error {
		return out.Send(&v1.StreamPodSandboxStatsResponse{PodSandboxStats: part})
	})
}

func (s *runtimeService) sandboxStats(ctx context.Context, f *v1.PodSandboxStatsFilter) ([]spec.SandboxStats, error) {
	filter, err := translate.SandboxStatsFilter(f)
	if err != nil {
		return nil, err
	}
	return s.runtime.ListSandboxStats(ctx, filter)
}

func (s *runtimeService) ListMetricDescriptors(context.Context, *v1.ListMetricDescriptorsRequest) (*v1.ListMetricDescriptorsResponse, error) {
	return &v1.ListMetricDescriptorsResponse{Descriptors: translate.MetricDescriptors()}, nil
}

func (s *runtimeService) ListPodSandboxMetrics(ctx context.Context, _ *v1.ListPodSandboxMetricsRequest) (*v1.ListPodSandboxMetricsResponse, error) {
	all, err := s.runtime.SandboxMetrics(ctx)
	if err != nil {
		return nil, err
	}
	return &v1.ListPodSandboxMetricsResponse{PodMetrics: slices.Collect(each(all, translate.SandboxMetrics))}, nil
}

func (s *runtimeService) StreamPodSandboxMetrics(_ *v1.StreamPodSandboxMetricsRequest, out v1.RuntimeService_StreamPodSandboxMetricsServer) error {
	all, err := s.runtime.SandboxMetrics(out.Context())
	if err != nil {
		return err
	}
	return inChunks(each(all, translate.SandboxMetrics), func(part []*v1.PodSandboxMetrics) error {
		return out.Send(&v1.StreamPodSandboxMetricsResponse{PodSandboxMetrics: part})
	})
}
