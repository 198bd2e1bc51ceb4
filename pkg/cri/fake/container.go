package fake

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// CreateContainer makes a container in a ready sandbox.
func (r *Runtime) CreateContainer(ctx context.Context, sandboxID string, req spec.ContainerRequest) (string, error) {
	if err := r.enter(ctx, "CreateContainer"); err != nil {
		return "", err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s, err := find(r.sandboxes, "sandbox", sandboxID)
	if err != nil {
		return "", err
	}
	if s.State != spec.SandboxReady {
		return "", spec.Preconditionf("sandbox %s is stopped", s.Spec.ID)
	}
	v := &spec.ContainerView{State: spec.ContainerCreated}
	v.Spec = spec.Container{
		ID: r.newID(), SandboxID: s.Spec.ID, CreatedAt: time.Now().UnixNano(), Request: req, StopSignal: "SIGTERM",
		Image: spec.ImageUse{ID: "sha256:" + strings.Repeat("1", 64), Ref: "example/x@sha256:" + strings.Repeat("2", 64)},
	}
	v.Resources = req.Resources
	if req.StopSignal != "" {
		v.Spec.StopSignal = req.StopSignal
	}
	if req.LogPath != "" && s.Spec.Request.LogDirectory != "" {
		v.Spec.LogPath = s.Spec.Request.LogDirectory + "/" + req.LogPath
	}
	r.containers[v.Spec.ID] = v
	r.ended[v.Spec.ID] = make(chan struct{})
	return v.Spec.ID, nil
}

// with runs f on a container with the lock held.
func (r *Runtime) with(ctx context.Context, method, id string, f func(*spec.ContainerView) error) error {
	if err := r.enter(ctx, method); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	v, err := find(r.containers, "container", id)
	if err != nil {
		return err
	}
	return f(v)
}

// StartContainer makes a created container run.
func (r *Runtime) StartContainer(ctx context.Context, id string) error {
	return r.with(ctx, "StartContainer", id, func(v *spec.ContainerView) error {
		if v.State != spec.ContainerCreated {
			return spec.Preconditionf("container %s is %s, not created", v.Spec.ID, v.State)
		}
		v.State = spec.ContainerRunning
		v.Facts.Started = &spec.Started{StartedAt: time.Now().UnixNano(), Init: spec.Process{PID: 4711}}
		return nil
	})
}

// end is called with the lock held.
func (r *Runtime) end(v *spec.ContainerView, code int) {
	if v.State == spec.ContainerExited {
		return
	}
	v.State = spec.ContainerExited
	v.Facts.Exit = &spec.Exit{FinishedAt: time.Now().UnixNano(), Code: code}
	close(r.ended[v.Spec.ID])
}

// End makes a container end with that code, as its program would.
func (r *Runtime) End(id string, code int) error {
	return r.with(context.Background(), "End", id, func(v *spec.ContainerView) error { r.end(v, code); return nil })
}

// StopContainer ends the container with 143.
func (r *Runtime) StopContainer(ctx context.Context, id string, _ time.Duration) error {
	return r.with(ctx, "StopContainer", id, func(v *spec.ContainerView) error { r.end(v, 143); return nil })
}

// RemoveContainer ends and removes it.
func (r *Runtime) RemoveContainer(ctx context.Context, id string) error {
	return r.with(ctx, "RemoveContainer", id, func(v *spec.ContainerView) error {
		r.end(v, 137)
		delete(r.containers, v.Spec.ID)
		return nil
	})
}

// Container returns one.
func (r *Runtime) Container(ctx context.Context, id string) (out spec.ContainerView, err error) {
	err = r.with(ctx, "Container", id, func(v *spec.ContainerView) error { out = *v; return nil })
	return out, err
}

// Containers lists what matches.
func (r *Runtime) Containers(ctx context.Context, f spec.ContainerFilter) ([]spec.ContainerView, error) {
	if err := r.enter(ctx, "Containers"); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []spec.ContainerView
	for id, v := range r.containers {
		if strings.HasPrefix(id, f.ID) && strings.HasPrefix(v.Spec.SandboxID, f.SandboxID) &&
			(f.State == "" || f.State == v.State) && matches(v.Spec.Request.Labels, f.Labels) {
			out = append(out, *v)
		}
	}
	return out, nil
}

// UpdateContainer merges the limits of a container that has not ended.
func (r *Runtime) UpdateContainer(ctx context.Context, id string, asked spec.Resources) error {
	return r.with(ctx, "UpdateContainer", id, func(v *spec.ContainerView) error {
		if v.State == spec.ContainerExited {
			return spec.Preconditionf("container %s is exited", v.Spec.ID)
		}
		old := spec.Resources{}
		if v.Resources != nil {
			old = *v.Resources
		}
		now := old.Merge(asked)
		v.Resources = &now
		return nil
	})
}

func running(v *spec.ContainerView) error {
	if v.State != spec.ContainerRunning {
		return spec.Preconditionf("container %s is not running", v.Spec.ID)
	}
	return nil
}

// ReopenLog needs a running container.
func (r *Runtime) ReopenLog(ctx context.Context, id string) error {
	return r.with(ctx, "ReopenLog", id, running)
}

// ExecSync needs a running container.
func (r *Runtime) ExecSync(ctx context.Context, req spec.ExecRequest) (spec.ExecResult, error) {
	if err := r.with(ctx, "ExecSync", req.ContainerID, running); err != nil {
		return spec.ExecResult{}, err
	}
	if r.Exec != nil {
		return r.Exec(req)
	}
	return spec.ExecResult{Stdout: []byte(strings.Join(req.Command, " "))}, nil
}

// Signal records the signal; 9 and 15 end the container.
func (r *Runtime) Signal(ctx context.Context, id string, signal int) error {
	return r.with(ctx, "Signal", id, func(v *spec.ContainerView) error {
		if err := running(v); err != nil {
			return err
		}
		r.Signals = append(r.Signals, fmt.Sprintf("%s %d", v.Spec.ID, signal))
		if signal == 9 || signal == 15 {
			r.end(v, 128+signal)
		}
		return nil
	})
}

// RemoveOnExit marks the sandbox.
func (r *Runtime) RemoveOnExit(ctx context.Context, id string) error {
	if err := r.enter(ctx, "RemoveOnExit"); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	v, err := find(r.sandboxes, "sandbox", id)
	if err == nil {
		v.Status.RemoveOnExit = true
	}
	return err
}

// Wait waits for the container's end.
func (r *Runtime) Wait(ctx context.Context, id string) (out spec.ContainerView, err error) {
	var ended chan struct{}
	if err := r.with(ctx, "Wait", id, func(v *spec.ContainerView) error { ended, id = r.ended[v.Spec.ID], v.Spec.ID; return nil }); err != nil {
		return out, err
	}
	select {
	case <-ended:
		return r.Container(ctx, id)
	case <-ctx.Done():
		return out, context.Cause(ctx)
	}
}
