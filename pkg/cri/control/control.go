package control

import (
	"context"
	"errors"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc"

	"github.com/runtimed/runtimed/pkg/cri/control/controlpb"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Runtime is what the service needs of the sandboxes. Ids may be unique prefixes.
type Runtime interface {
	// Signal sends signal, 1 to 64, to the container's first process.
	Signal(ctx context.Context, containerID string, signal int) error
	// RemoveOnExit marks the sandbox to be removed when its last container has exited.
	RemoveOnExit(ctx context.Context, sandboxID string) error
	// Wait returns when the container has exited.
	Wait(ctx context.Context, containerID string) (spec.ContainerView, error)
}

// maxSignal is SIGRTMAX, signal(7).
const maxSignal = 64

// maxID bounds what is looked up.
const maxID = 253

// errLeaving ends the waits of a daemon that stops.
var errLeaving = errors.New("runtimed is stopping; the container runs on")

// Service implements controlpb.ControlServer.
type Service struct {
	controlpb.UnimplementedControlServer
	runtime  Runtime
	streams  Streams
	info     *controlpb.InfoResponse
	stopping context.Context
}

// New makes a service that answers Info with info, and whose waits end when stopping does.
func New(stopping context.Context, runtime Runtime, info *controlpb.InfoResponse) *Service {
	return &Service{runtime: runtime, info: info, stopping: stopping}
}

// Register adds the service to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) { controlpb.RegisterControlServer(r, s) }

// Info tells what serves here.
func (s *Service) Info(context.Context, *controlpb.InfoRequest) (*controlpb.InfoResponse, error) {
	return s.info, nil
}

// Signal sends a signal to a container.
func (s *Service) Signal(ctx context.Context, r *controlpb.SignalRequest) (*controlpb.SignalResponse, error) {
	if err := id("container_id", r.GetContainerId()); err != nil {
		return nil, err
	}
	if n := r.GetSignal(); n < 1 || n > maxSignal {
		return nil, spec.Invalidf("signal %d is out of range: 1 to %d", n, maxSignal)
	}
	if err := s.runtime.Signal(ctx, r.GetContainerId(), int(r.GetSignal())); err != nil {
		return nil, err
	}
	return &controlpb.SignalResponse{}, nil
}

// Wait waits for a container's end.
func (s *Service) Wait(ctx context.Context, r *controlpb.WaitRequest) (*controlpb.WaitResponse, error) {
	if err := id("container_id", r.GetContainerId()); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.stopping, cancel)()
	view, err := s.runtime.Wait(ctx, r.GetContainerId())
	if err != nil {
		if s.stopping.Err() != nil && errors.Is(err, context.Canceled) {
			err = spec.Errorf(errdefs.ErrUnavailable, "%w", errLeaving)
		}
		return nil, err
	}
	return ended(view), nil
}

func ended(v spec.ContainerView) *controlpb.WaitResponse {
	out := &controlpb.WaitResponse{ContainerId: v.Spec.ID}
	if v.Facts.Started != nil {
		out.StartedAt = v.Facts.Started.StartedAt
	}
	if end := v.Facts.Ended(); end != nil {
		out.ExitCode, out.FinishedAt = int32(end.Code), end.FinishedAt
		out.Reason, out.Message = end.Why(), end.Message
		out.OomKilled, out.LogLost = end.OOMKilled, end.LogLost
	}
	return out
}

// RemoveOnExit marks a sandbox.
func (s *Service) RemoveOnExit(ctx context.Context, r *controlpb.RemoveOnExitRequest) (*controlpb.RemoveOnExitResponse, error) {
	if err := id("pod_sandbox_id", r.GetPodSandboxId()); err != nil {
		return nil, err
	}
	if err := s.runtime.RemoveOnExit(ctx, r.GetPodSandboxId()); err != nil {
		return nil, err
	}
	return &controlpb.RemoveOnExitResponse{}, nil
}

func id(field, s string) error {
	switch {
	case s == "":
		return spec.Invalidf("%s is missing", field)
	case len(s) > maxID:
		return spec.Invalidf("%s has %d bytes: at most %d are possible", field, len(s), maxID)
	}
	return nil
}
