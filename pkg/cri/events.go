package cri

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/pkg/cri/translate"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// GetContainerEvents sends events until the caller leaves, is too slow, or the daemon is told to stop. The header tells the caller that
// what changes from then on is in the stream.
func (s *runtimeService) GetContainerEvents(_ *v1.GetEventsRequest, out grpc.ServerStreamingServer[v1.ContainerEventResponse]) error {
	ctx, cancel := context.WithCancelCause(out.Context())
	defer cancel(nil)
	defer context.AfterFunc(s.leaving, func() { cancel(context.Cause(s.leaving)) })()
	return s.runtime.Events(ctx, func() { out.SendHeader(metadata.MD{}) }, func(e spec.Event) error {
		return out.Send(translate.Event(e))
	})
}
