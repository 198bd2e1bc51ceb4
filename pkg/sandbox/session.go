package sandbox

import (
	"context"

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
