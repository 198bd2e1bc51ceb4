package sandbox

import (
	"context"
	"errors"
	"time"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// ExecSync runs a command in a running container and returns what it wrote. A command that is not there has exit code
// 127, one that cannot be executed 126, with the reason on stderr. It is DeadlineExceeded when req.Timeout ends first.
func (r *Runtime) ExecSync(ctx context.Context, req spec.ExecRequest) (spec.ExecResult, error) {
	c, launch, err := r.execIn(req.ContainerID, req.Command)
	if err != nil {
		return spec.ExecResult{}, err
	}
	req.ContainerID = c.spec.ID
	return r.Sessions.Exec(ctx, launch, ExecProfile{}, req)
}

// Exec runs a command in a running container with the caller's streams and returns its exit code, as ExecSync has it.
// When ctx ends first the command and all that it started are killed. A read of req.Streams.Stdin that is in progress
// when it returns is the caller's to end.
func (r *Runtime) Exec(ctx context.Context, req spec.StreamRequest) (exitCode int32, err error) {
	c, launch, err := r.execIn(req.ContainerID, req.Command)
	if err != nil {
		return 0, err
	}
	req.ContainerID = c.spec.ID
	return r.Sessions.Stream(ctx, launch, req)
}

// lastWords is how long a caller may take for the last output of a container that has ended.
const lastWords = 30 * time.Second

// Attach carries a running container's output to the caller from now on, and its input, where the container has one,
// until the container ends, nil, or ctx does. The container's own terminal is taken, if it has one: s.TTY is not looked
// at, and s.Stderr stays silent then. Leaving harms nothing, except that the end of the first session with an input ends
// the container's where it was made so (stdin_once) and has no terminal.
//
// A caller that does not read delays the container by 500 ms, once; then it misses output, is told so where that is
// missing, and gets ResourceExhausted in the end. Reads and writes of the caller's streams that are in progress when it
// returns are the caller's to end.
func (r *Runtime) Attach(ctx context.Context, containerID string, s spec.Streams) error {
	c, err := r.running(containerID)
	if err != nil {
		return err
	}
	if s.Stdin == nil && s.Stdout == nil && s.Stderr == nil {
		return spec.Invalidf("no stream of container %s is asked for", c.spec.ID)
	}
	launch, err := r.launchOf(c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go r.endAttachment(ctx, cancel, c)
	err = r.Sessions.Attach(ctx, launch, s, r.Leaving)
	if now := c.read().State(); errors.Is(err, errdefs.ErrUnavailable) && now != spec.ContainerRunning {
		return spec.Preconditionf("container %s is %s, not running: %w", c.spec.ID, now, err)
	}
	return err
}

// endAttachment ends what would outlast the container or the daemon.
func (r *Runtime) endAttachment(ctx context.Context, cancel context.CancelCauseFunc, c *container) {
	select {
	case <-c.done:
	case <-r.Leaving:
		cancel(spec.Errorf(errdefs.ErrUnavailable, "the daemon is stopping; container %s runs on: attach again", c.spec.ID))
		return
	case <-ctx.Done():
		return
	}
	select {
	case <-time.After(lastWords):
		cancel(spec.Errorf(errdefs.ErrResourceExhausted, "the last output of container %s was not taken within %v", c.spec.ID, lastWords))
	case <-ctx.Done():
	}
}

// execIn finds a running container, and how it was started, for a command.
func (r *Runtime) execIn(id string, command []string) (*container, spec.Launch, error) {
	c, err := r.running(id)
	if err != nil {
		return nil, spec.Launch{}, err
	}
	if len(command) == 0 || command[0] == "" {
		return nil, spec.Launch{}, spec.Invalidf("the command to run in container %s is missing", c.spec.ID)
	}
	launch, err := r.launchOf(c)
	return c, launch, err
}

func (r *Runtime) running(id string) (*container, error) {
	c, err := r.findContainer(id)
	if err != nil {
		return nil, err
	}
	if s := c.read().State(); s != spec.ContainerRunning {
		return nil, spec.Preconditionf("container %s is %s, not running", c.spec.ID, s)
	}
	return c, nil
}
