package cri

import (
	"context"

	"github.com/containerd/errdefs"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/pkg/cri/stream"
	"github.com/runtimed/runtimed/pkg/cri/translate"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Streaming gives out the addresses where sessions are served. Nothing happens in a container before a client comes there.
type Streaming interface {
	Exec(t stream.ExecTarget) (url string, err error)
	Attach(t stream.AttachTarget) (url string, err error)
	PortForward(t stream.PortForwardTarget) (url string, err error)
}

// noStreaming is for a server without a streaming address.
type noStreaming struct{}

var errNoStreaming = spec.Errorf(errdefs.ErrNotImplemented, "streaming is not served here")

func (noStreaming) Exec(stream.ExecTarget) (string, error)               { return "", errNoStreaming }
func (noStreaming) Attach(stream.AttachTarget) (string, error)           { return "", errNoStreaming }
func (noStreaming) PortForward(stream.PortForwardTarget) (string, error) { return "", errNoStreaming }

func (s *runtimeService) Exec(ctx context.Context, r *v1.ExecRequest) (*v1.ExecResponse, error) {
	id, command, err := translate.StreamedExec(r)
	if err != nil {
		return nil, err
	}
	view, err := s.runningContainer(ctx, id)
	if err != nil {
		return nil, err
	}
	url, err := s.streaming.Exec(stream.ExecTarget{
		ContainerID: view.Spec.ID, Command: command,
		Wanted: stream.Wanted{Stdin: r.GetStdin(), Stdout: r.GetStdout(), Stderr: r.GetStderr(), TTY: r.GetTty()},
	})
	return &v1.ExecResponse{Url: url}, err
}

// Attach: whether there is a terminal is the container's matter; what the request says of it is what the client expects.
func (s *runtimeService) Attach(ctx context.Context, r *v1.AttachRequest) (*v1.AttachResponse, error) {
	id, err := translate.StreamedAttach(r)
	if err != nil {
		return nil, err
	}
	view, err := s.runningContainer(ctx, id)
	if err != nil {
		return nil, err
	}
	url, err := s.streaming.Attach(stream.AttachTarget{
		ContainerID: view.Spec.ID, TTY: view.Spec.Request.TTY,
		Wanted: stream.Wanted{Stdin: r.GetStdin(), Stdout: r.GetStdout(), Stderr: r.GetStderr(), TTY: r.GetTty()},
	})
	return &v1.AttachResponse{Url: url}, err
}

func (s *runtimeService) PortForward(ctx context.Context, r *v1.PortForwardRequest) (*v1.PortForwardResponse, error) {
	id, ports, err := translate.PortForward(r)
	if err != nil {
		return nil, err
	}
	view, err := s.runtime.Sandbox(ctx, id)
	if err != nil {
		return nil, err
	}
	if view.State != spec.SandboxReady {
		return nil, spec.Preconditionf("sandbox %s is stopped", view.Spec.ID)
	}
	url, err := s.streaming.PortForward(stream.PortForwardTarget{SandboxID: view.Spec.ID, Ports: ports})
	return &v1.PortForwardResponse{Url: url}, err
}

func (s *runtimeService) runningContainer(ctx context.Context, id string) (spec.ContainerView, error) {
	view, err := s.runtime.Container(ctx, id)
	if err == nil && view.State != spec.ContainerRunning {
		err = spec.Preconditionf("container %s is %s, not running", view.Spec.ID, view.State)
	}
	return view, err
}
