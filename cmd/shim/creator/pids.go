package creator

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/opencontainers/runc/libcontainer/configs"

	"github.com/runtimed/runtimed/pkg/sandbox/process"
)

// holdPIDs opens the PID namespace that the container is to share, and makes sure that it is its owner's: a pid that was
// given to another process meanwhile would be a way into the node's own. The namespace is joined through what was
// opened here.
func (c *creator) holdPIDs(context.Context) error {
	owner := c.bundle.Launch.PIDOwner
	path := c.config.Namespaces.PathOf(configs.NEWPID)
	if (owner == nil) != (path == "") {
		return fmt.Errorf("config.json joins the PID namespace %q, and launch.json does not say whose it is", path)
	}
	if owner == nil {
		return nil
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/pid", owner.PID))
	if err != nil {
		return fmt.Errorf("the process whose PID namespace is to be shared has ended: %w", err)
	}
	h, err := process.Open(*owner) // behind the open: what was opened was this process's
	if err != nil {
		f.Close()
		if errors.Is(err, process.ErrGone) {
			return errors.New("the process whose PID namespace is to be shared has ended")
		}
		return err
	}
	defer h.Close()
	c.pids = f
	c.config.Namespaces.Add(configs.NEWPID, fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd()))
	return nil
}
