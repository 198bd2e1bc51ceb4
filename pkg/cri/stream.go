package cri

import (
	"iter"
	"path"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/pkg/cri/translate"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

const (
	// chunkBytes is the size that a message of a stream is filled up to. A single item that is larger goes alone.
	chunkBytes = 1 << 20
	// chunkItems bounds the number of items beside it, so that a reader has something to do early.
	chunkItems = 512
	// itemFraming is the tag and the length of one item of a repeated field: at most 1 and 5 bytes.
	itemFraming = 6
)

// streamOf are the calls that deliver in many messages what a unary list has in one.
var streamOf = map[string]string{
	"ListPodSandbox":        "StreamPodSandboxes",
	"ListContainers":        "StreamContainers",
	"ListImages":            "StreamImages",
	"ListContainerStats":    "StreamContainerStats",
	"ListPodSandboxStats":   "StreamPodSandboxStats",
	"ListPodSandboxMetrics": "StreamPodSandboxMetrics",
}

// fits refuses an answer that is too large for one message, with the name of the call that has room for it. grpc would
// refuse it too, without a way out.
func fits(method string, resp any) error {
	rpc := path.Base(method)
	stream, isList := streamOf[rpc]
	m, isProto := resp.(proto.Message)
	if !isList || !isProto {
		return nil
	}
	if n := proto.Size(m); n > MaxMessage {
		return spec.Errorf(errdefs.ErrResourceExhausted,
			"%s has %d bytes to say, and a message holds %d: call %s, or narrow the filter", rpc, n, MaxMessage, stream)
	}
	return nil
}

// inChunks sends each item once: as many in one message as chunkBytes and chunkItems allow, and never none.
func inChunks[T proto.Message](items iter.Seq[T], send func([]T) error) error {
	var chunk []T
	size := 0
	for item := range items {
		n := proto.Size(item) + itemFraming
		if len(chunk) > 0 && (size+n > chunkBytes || len(chunk) == chunkItems) {
			if err := send(chunk); err != nil {
				return err
			}
			chunk, size = nil, 0
		}
		chunk, size = append(chunk, item), size+n
	}
	if len(chunk) == 0 {
		return nil
	}
	return send(chunk)
}

// each translates one item at a time, so that a long list is never there twice.
func each[V any, T proto.Message](views []V, item func(V) T) iter.Seq[T] {
	return func(yield func(T) bool) {
		for _, v := range views {
			if !yield(item(v)) {
				return
			}
		}
	}
}

func (s *runtimeService) StreamPodSandboxes(r *v1.StreamPodSandboxesRequest, out grpc.ServerStreamingServer[v1.StreamPodSandboxesResponse]) error {
	filter, err := translate.SandboxFilter(r.GetFilter())
	if err != nil {
		return err
	}
	views, err := s.runtime.Sandboxes(out.Context(), filter)
	if err != nil {
		return err
	}
	return inChunks(each(views, translate.SandboxItem), func(c []*v1.PodSandbox) error {
		return out.Send(&v1.StreamPodSandboxesResponse{PodSandboxes: c})
	})
}

func (s *runtimeService) StreamContainers(r *v1.StreamContainersRequest, out grpc.ServerStreamingServer[v1.StreamContainersResponse]) error {
	filter, err := translate.ContainerFilter(r.GetFilter())
	if err != nil {
		return err
	}
	views, err := s.runtime.Containers(out.Context(), filter)
	if err != nil {
		return err
	}
	return inChunks(each(views, translate.ContainerItem), func(c []*v1.Container) error {
		return out.Send(&v1.StreamContainersResponse{Containers: c})
	})
}

func (s *imageService) StreamImages(r *v1.StreamImagesRequest, out grpc.ServerStreamingServer[v1.StreamImagesResponse]) error {
	images, err := s.list(out.Context(), r.GetFilter())
	if err != nil {
		return err
	}
	return inChunks(each(images, translate.Image), func(c []*v1.Image) error {
		return out.Send(&v1.StreamImagesResponse{Images: c})
	})
}

// strictStream takes a request that cannot be parsed for the caller's mistake, where grpc says Internal.
type strictStream struct {
	grpc.ServerStream
	rpc string
}

func (s strictStream) RecvMsg(m any) error {
	p := parsed{message: m}
	if err := s.ServerStream.RecvMsg(&p); err != nil {
		return err
	}
	if p.err != nil {
		return status.Errorf(codes.InvalidArgument, "the message of %s cannot be parsed: %v", s.rpc, p.err)
	}
	return nil
}
