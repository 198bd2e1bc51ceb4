package sandbox

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/process"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Codes and reasons of ends that the daemon records in place of the shim.
const (
	codeStartError = 128
	codeLost       = 137
	codeRebooted   = 255

	reasonStartError = "StartError"
	reasonLost       = "ShimLost"
	reasonRebooted   = "NodeRebooted"
)

// shimGrace is how long a shim may take to state an exit after the container's init has died: a stop
// with a shim that does not follow is answered within two seconds.
const shimGrace = 1500 * time.Millisecond

// StartContainer lets a CREATED container run. When it returns nil the log file exists and the program was let go. On
// error the container is EXITED with reason StartError, code 128, unless it was not CREATED.
func (r *Runtime) StartContainer(ctx context.Context, id string) error {
	c, err := r.findContainer(id)
	if err != nil {
		return err
	}
	_, err = r.flights.do(ctx, "start "+c.spec.ID, func(ctx context.Context) (string, error) {
		ctx, cancel := until(ctx, c.halting, spec.Preconditionf("container %s is being stopped or removed", c.spec.ID))
		defer cancel()
		return "", r.startContainer(ctx, c)
	})
	return err
}

func (r *Runtime) startContainer(ctx context.Context, c *container) error {
	release, err := c.op.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	if s := c.read().State(); s != spec.ContainerCreated {
		return spec.Preconditionf("container %s is %s; only a created one can be started", c.spec.ID, s)
	}
	if err := r.mustBeReady(c.pod); err != nil {
		return err
	}
	now := r.Now().UnixNano()
	if err := r.setContainerStatus(c, func(s *spec.ContainerStatus) { s.StartingAt = now }); err != nil {
		return err
	}
	flow := r.containerFlow(c)
	flow.Steps = flow.Steps[createSteps:]
	err = flow.Run(ctx)
	if err == nil {
		err = r.readStarted(c)
	}
	if err == nil {
		return nil
	}
	undo, cancel := detached(ctx)
	defer cancel()
	if uerr := flow.Teardown(undo); uerr != nil {
		r.Log.Error("a failed start left something behind, which the removal will try again", "container", c.spec.ID, "error", uerr)
	}
	r.end(c, spec.Exit{Code: codeStartError, Reason: reasonStartError, Message: startMessage(err)})
	return asStartError(c, err)
}

func startMessage(err error) string {
	if s := (*StartError)(nil); errors.As(err, &s) {
		return s.Message
	}
	return err.Error()
}

func asStartError(c *container, err error) error {
	if s := (*StartError)(nil); errors.As(err, &s) {
		return spec.Errorf(errdefs.ErrUnknown, "container %s could not be started: %s", c.spec.ID, s.Message)
	}
	return err
}

// readStarted takes over what the shim has stated and watches it from now on.
func (r *Runtime) readStarted(c *container) error {
	started, exit, err := r.store.ShimFacts(c.spec.SandboxID, c.spec.ID)
	if err != nil {
		return err
	}
	if started == nil {
		return &StartError{Message: "the shim said that the container runs, and left no started.json"}
	}
	c.change(func(f *spec.Facts) { f.Started = started })
	r.publish(c.pod, c.spec.ID, spec.EventStarted)
	r.watch(c, exit)
	return nil
}

// watch records the container's end when it comes. exit is the end that is known already, or nil.
func (r *Runtime) watch(c *container, exit *spec.Exit) {
	facts := c.read()
	r.background.Go(func() {
		if exit == nil {
			exit = r.awaitExit(c, facts)
		}
		if exit == nil {
			return // the daemon is leaving
		}
		r.end(c, *exit)
		r.clear(c)
	})
}

// awaitExit returns the container's end, or nil when the Runtime is closed first.
func (r *Runtime) awaitExit(c *container, facts spec.Facts) *spec.Exit {
	ctx, cancel := context.WithCancel(r.quit)
	defer cancel()
	pid, alive := r.Shims.Alive(r.Layout, c.spec.SandboxID, c.spec.ID)
	if alive {
		shim, err := process.Open(spec.Process{PID: pid})
		if err == nil {
			defer shim.Close()
			r.background.Go(func() { r.pressShim(ctx, shim, facts.Started.Init) })
			if shim.Wait(ctx) != nil {
				return nil
			}
		}
	}
	_, exit, err := r.store.ShimFacts(c.spec.SandboxID, c.spec.ID)
	if exit != nil {
		return exit
	}
	message := "its shim ended without stating an exit"
	if err != nil {
		message = err.Error()
	}
	if err := r.Cgroups.Kill(r.quit, c.spec.CgroupPath); err != nil {
		if r.quit.Err() != nil {
			return nil
		}
		r.Log.Error("a container without a shim could not be killed", "container", c.spec.ID, "error", err)
	}
	return &spec.Exit{Code: codeLost, Reason: reasonLost, Message: message}
}

// pressShim kills a shim that does not follow its container's init within shimGrace: a stopped one would hold up
// everybody who waits for the end.
func (r *Runtime) pressShim(ctx context.Context, shim *process.Handle, init spec.Process) {
	if h, err := process.Open(init); err == nil {
		err = h.Wait(ctx)
		h.Close()
		if err != nil {
			return
		}
	}
	select {
	case <-time.After(shimGrace):
		shim.Signal(unix.SIGKILL)
	case <-ctx.Done():
	}
}

// end records an end: the shim's own, which is on disk already, or the daemon's verdict.
func (r *Runtime) end(c *container, e spec.Exit) {
	if e.Version == 0 { // the daemon's own
		e.Version = spec.RecordVersion
		e.FinishedAt = r.Now().UnixNano()
		if err := r.setContainerStatus(c, func(s *spec.ContainerStatus) { s.Lost = &e }); err != nil {
			r.Log.Warn("the end of a container could not be recorded", "container", c.spec.ID, "error", err)
			c.change(func(f *spec.Facts) { f.Status.Lost = &e })
		}
	} else {
		c.change(func(f *spec.Facts) { f.Exit = &e })
	}
	r.publish(c.pod, c.spec.ID, spec.EventStopped) // before who waits for the end is told
	close(c.done)
	if r.Ended != nil {
		r.Ended(e)
	}
	r.Log.Info("container ended", "container", c.spec.ID, "code", e.Code, "reason", e.Why(), "log_bytes_lost", e.LogLost)
}

// clear takes the kernel objects of an ended container away; its record stays.
func (r *Runtime) clear(c *container) {
	ctx, cancel := detached(r.quit)
	defer cancel()
	release, err := c.op.acquire(ctx)
	if err != nil {
		return
	}
	flow := r.containerFlow(c)
	flow.Steps = flow.Steps[createSteps:]
	if err := flow.Teardown(ctx); err != nil {
		r.Log.Error("an ended container left something behind, which the removal will try again", "container", c.spec.ID, "error", err)
	}
	release()
	r.removeIfLast(c.pod)
}
