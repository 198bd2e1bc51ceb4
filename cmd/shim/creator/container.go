package creator

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/opencontainers/runc/libcontainer"
	_ "github.com/opencontainers/runc/libcontainer/nsenter" // C, before main: the init's way into its namespaces
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/cmd/shim/bundle"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

// create lets libcontainer check the configuration and make its state directory.
func (c *creator) create(context.Context) error {
	var err error
	if c.process, err = bundle.Process(c.bundle.Config.Process); err != nil {
		return err
	}
	c.process.Init = true
	if err := os.Mkdir(c.bundle.StateDir(), 0o700); err != nil {
		return err
	}
	path, state, err := c.bundle.OpenState()
	if err != nil {
		return err
	}
	c.state = state // open for as long as the container is used here
	c.container, err = libcontainer.Create(path, c.bundle.Launch.ContainerID, c.config)
	return err
}

func (c *creator) removeState(context.Context) error {
	return os.RemoveAll(c.bundle.StateDir())
}

// start makes the container's cgroup and its init, which sets the container up and then waits at the fifo. A command
// that is missing or may not be executed fails here.
func (c *creator) start(context.Context) error {
	err := c.container.Start(c.process)
	c.streams.closeTheirs()
	return err
}

// kill ends the container and takes its cgroup down. After a Start that failed, libcontainer has done so already.
func (c *creator) kill(context.Context) error {
	if c.container == nil {
		return nil
	}
	if pid, err := c.process.Pid(); err == nil {
		if err := c.container.Signal(unix.SIGKILL); err != nil && !errors.Is(err, libcontainer.ErrNotRunning) {
			return err
		}
		// By pid: for a container in a PID namespace that others share, the init is killed like any other.
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
		if _, err := c.process.Wait(); err != nil && !reaped(err) {
			return err
		}
	}
	return c.container.Destroy()
}

// reaped: the process has been waited for, now or before; how it ended is of no interest.
func reaped(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) || errors.Is(err, unix.ECHILD) || strings.Contains(err.Error(), "Wait was already called")
}

// explain makes a report for a person from an error of the flow. What libcontainer wraps around the reason that the
// container's init gave says nothing more.
func explain(err error) string {
	if err == nil {
		return "the creator ended without becoming the monitor"
	}
	text := err.Error()
	var s *step.Error
	if !errors.As(err, &s) {
		return text
	}
	if s.Step != "start" {
		return text
	}
	text = s.Err.Error()
	for _, p := range []string{"unable to start container process: ", "error during container init: "} {
		text = strings.TrimPrefix(text, p)
	}
	return withoutStat(text)
}

// withoutStat shortens os/exec's `exec: "/a": stat /a: reason`.
func withoutStat(text string) string {
	rest, ok := strings.CutPrefix(text, "exec: ")
	if !ok {
		return text
	}
	quoted, err := strconv.QuotedPrefix(rest)
	if err != nil {
		return text
	}
	name, err := strconv.Unquote(quoted)
	if err != nil {
		return text
	}
	return "exec: " + quoted + strings.Replace(rest[len(quoted):], ": stat "+name+": ", ": ", 1)
}
