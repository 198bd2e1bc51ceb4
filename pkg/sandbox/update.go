package sandbox

import (
	"context"
	"errors"
	"reflect"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

// Limits changes and reads the limits of containers' groups, which libcontainer has made.
type Limits interface {
	// PlanUpdate says what is to be written so that the group has what is asked for; it changes nothing.
	PlanUpdate(path string, before, asked spec.Resources) (spec.LimitChange, error)
	// Change writes it, and stops at the first write that is refused.
	Change(ctx context.Context, path string, c spec.LimitChange) error
	// Revert puts back what was there, however far Change got. A group that is gone is reverted.
	Revert(ctx context.Context, path string, c spec.LimitChange) error
	// Limits reads what the kernel has, in the words of what was asked for.
	Limits(path string, asked spec.Resources) (spec.Resources, error)
}

// UpdateContainer changes the limits of a created or a running container: all that are asked for, or none. Zero fields
// leave things as they are. When it returns nil the kernel has them, and they are recorded. FailedPrecondition: the container
// has ended, or needs more than it would have.
func (r *Runtime) UpdateContainer(ctx context.Context, id string, asked spec.Resources) error {
	c, err := r.findContainer(id)
	if err != nil {
		return err
	}
	release, err := c.op.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	if reflect.DeepEqual(asked, spec.Resources{}) {
		return r.mustLive(c)
	}
	switch c.read().State() {
	case spec.ContainerCreated:
		return r.updateCreated(c, asked)
	case spec.ContainerRunning:
		return r.updateRunning(ctx, c, asked)
	}
	return r.mustLive(c)
}

func (r *Runtime) mustLive(c *container) error {
	if s := c.read().State(); s != spec.ContainerCreated && s != spec.ContainerRunning {
		return spec.Preconditionf("container %s is %s: only the limits of a created or a running one can be changed", c.spec.ID, s)
	}
	return nil
}

// limits are the container's in the request's words: as updated last, or as created.
func (c *container) limits() spec.Resources {
	if r := c.read().Status.Resources; r != nil {
		return *r
	}
	if r := c.spec.Request.Resources; r != nil {
		return *r
	}
	return spec.Resources{}
}

// updateCreated only records: there is no group yet. What could not be started is refused now.
func (r *Runtime) updateCreated(c *container, asked spec.Resources) error {
	after := c.limits().Merge(asked)
	trial := newContainer(c.pod, c.spec)
	trial.facts.Status.Resources = &after
	if _, _, err := r.bundle(trial); err != nil {
		return err
	}
	return r.setContainerStatus(c, func(s *spec.ContainerStatus) { s.Resources = &after })
}

func (r *Runtime) updateRunning(ctx context.Context, c *container, asked spec.Resources) error {
	if asked.OOMScoreAdj != 0 {
		asked.OOMScoreAdj = int64(r.oomScore(asked))
	}
	if r.recoverUpdate(ctx, c); c.read().Status.Updating != nil {
		return spec.Errorf(errdefs.ErrUnavailable, "container %s: an earlier change of its limits failed, and could not be taken back yet", c.spec.ID)
	}
	change, err := r.Limits.PlanUpdate(c.spec.CgroupPath, c.limits(), asked)
	if err != nil {
		return r.updateError(c, err)
	}
	flow := r.updateFlow(c, change)
	if err = flow.Run(ctx); err == nil {
		return nil
	}
	undo, cancel := detached(ctx)
	defer cancel()
	if uerr := flow.Teardown(undo); uerr != nil {
		r.Log.Error("a change of limits that failed could not be taken back; the next start of the daemon tries again",
			"container", c.spec.ID, "error", err, "undo", uerr)
	}
	return r.updateError(c, err)
}

// oomScore is what the daemon can give, as at creation.
func (r *Runtime) oomScore(res spec.Resources) int {
	return max(int(res.OOMScoreAdj), r.Node.MinOOMScoreAdj)
}

// updated is the container's record with the limits that it was given since: its start is to have them.
func (r *Runtime) updated(c *container) spec.Container {
	s := c.spec
	if res := c.read().Status.Resources; res != nil {
		s.Request.Resources = res
		if score := r.oomScore(*res); res.OOMScoreAdj != 0 {
			s.Profile.OOMScoreAdj = &score
		}
	}
	return s
}

// updateError: a group that is not there is that of a container that has just ended.
func (r *Runtime) updateError(c *container, err error) error {
	if errors.Is(err, errdefs.ErrNotFound) {
		return spec.Errorf(errdefs.ErrFailedPrecondition, "container %s is ending: %w", c.spec.ID, err)
	}
	return err
}

// updateFlow is a change of limits. The order is:
//   - journal first: a daemon that is killed behind it finds what to put back;
//   - limits, which the kernel may refuse at any of them;
//   - record last: it makes the change, and takes the journal away, in one rename.
func (r *Runtime) updateFlow(c *container, change spec.LimitChange) step.Flow {
	return step.Flow{Name: "update", ID: c.spec.ID, Observe: r.Observe, Steps: []step.Step{
		{Name: "journal",
			Do: func(context.Context) error {
				return r.setContainerStatus(c, func(s *spec.ContainerStatus) { s.Updating = &change })
			},
			Undo: func(context.Context) error {
				return r.setContainerStatus(c, func(s *spec.ContainerStatus) { s.Updating = nil })
			}},
		{Name: "limits",
			Do:   func(ctx context.Context) error { return r.Limits.Change(ctx, c.spec.CgroupPath, change) },
			Undo: func(ctx context.Context) error { return r.Limits.Revert(ctx, c.spec.CgroupPath, change) }},
		{Name: "recorded",
			Do: func(context.Context) error {
				return r.setContainerStatus(c, func(s *spec.ContainerStatus) { s.Resources, s.Updating = &change.After, nil })
			}},
	}}
}

// recoverUpdate takes back a change of limits that a daemon was killed in: its caller was never told that it was done.
func (r *Runtime) recoverUpdate(ctx context.Context, c *container) {
	change := c.read().Status.Updating
	if change == nil {
		return
	}
	if err := r.updateFlow(c, *change).Teardown(ctx); err != nil {
		r.Log.Error("an interrupted change of limits could not be taken back", "container", c.spec.ID, "error", err)
		return
	}
	r.Log.Info("an interrupted change of limits was taken back", "container", c.spec.ID)
}

// kernelLimits shows, for a running container, what the kernel has. What cannot be read is shown as it was recorded: the
// container is ending.
func (r *Runtime) kernelLimits(v *spec.ContainerView, c *container) {
	if v.State != spec.ContainerRunning || v.Resources == nil {
		return
	}
	if now, err := r.Limits.Limits(c.spec.CgroupPath, *v.Resources); err == nil {
		v.Resources = &now
	}
}

// UpdateSandbox keeps what the pod's limits are to be: its group is the kubelet's, which has changed it already.
func (r *Runtime) UpdateSandbox(_ context.Context, id string, overhead, resources *spec.Resources) error {
	p, err := r.findPod(id)
	if err != nil {
		return err
	}
	return r.setStatus(p, func(s *spec.SandboxStatus) {
		if overhead != nil {
			s.Overhead = overhead
		}
		if resources != nil {
			s.Resources = resources
		}
	})
}
