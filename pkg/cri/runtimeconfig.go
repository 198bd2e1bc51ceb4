package cri

import (
	"context"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/pkg/cri/translate"
)

// UpdateRuntimeConfig: no subnet is no news.
func (s *runtimeService) UpdateRuntimeConfig(ctx context.Context, r *v1.UpdateRuntimeConfigRequest) (*v1.UpdateRuntimeConfigResponse, error) {
	cidrs, err := translate.PodCIDRs(r)
	if err != nil {
		return nil, err
	}
	if len(cidrs) > 0 {
		if err := s.runtime.UsePodCIDRs(ctx, cidrs); err != nil {
			return nil, err
		}
	}
	return &v1.UpdateRuntimeConfigResponse{}, nil
}
