package sandbox

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/process"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// StopContainer sends the container's stop signal, waits for timeout and then kills every process in it. It returns
// when the end is recorded. A second call with a shorter timeout shortens the wait; a caller that leaves does not.
func (r *Runtime) StopContainer(ctx context.Context, id string, timeout time.Duration) error {
	c, err := r.findContainer(id)
	if err != nil {
		return err
	}
	stopped := make(chan error, 1)
	r.background.Go(func() { stopped <- r.stopContainer(c, timeout) })
	select {
	case err := <-stopped:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *Runtime) stopContainer(c *container, timeout time.Duration) error {
	release, err := c.op.acquire(r.quit) // behind a start in flight
	if err != nil {
		return err
	}
	release()
	if c.read().State() != spec.ContainerRunning {
		return nil
	}
	if timeout > 0 {
		sig, err := ParseSignal(c.spec.StopSignal)
		if err != nil { // the image's word: an unknown one is no reason not to stop
			sig = unix.SIGTERM
		}
		if err := r.signal(c, sig); err == nil {
			select {
			case <-c.done:
				return nil
			case <-time.After(timeout):
			case <-r.quit.Done():
				return context.Cause(r.quit)
			}
		}
	}
	ctx, cancel := context.WithTimeout(r.quit, undoTime)
	defer cancel()
	return r.kill(ctx, c)
}

// kill ends every process of the container and waits until its end is recorded.
func (r *Runtime) kill(ctx context.Context, c *container) error {
	if err := r.Cgroups.Kill(ctx, c.spec.CgroupPath); err != nil {
		return err
	}
	if c.read().State() == spec.ContainerCreated {
		return nil
	}
	// Also of one that has ended: who goes on from here must come behind the event that tells of the end.
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Signal sends a signal to the container's init.
func (r *Runtime) Signal(_ context.Context, id string, signal int) error {
	c, err := r.findContainer(id)
	if err != nil {
		return err
	}
	if signal < 1 || signal > 64 {
		return spec.Invalidf("%d is not a signal: 1 to 64", signal)
	}
	return r.signal(c, unix.Signal(signal))
}

func (r *Runtime) signal(c *container, sig unix.Signal) error {
	facts := c.read()
	if facts.State() != spec.ContainerRunning {
		return spec.Preconditionf("container %s is not running", c.spec.ID)
	}
	init, err := process.Open(facts.Started.Init)
	if err == nil {
		defer init.Close()
		err = init.Signal(sig)
	}
	if errors.Is(err, process.ErrGone) {
		return spec.Preconditionf("container %s is ending", c.spec.ID)
	}
	return err
}

// Wait blocks until the container has ended.
func (r *Runtime) Wait(ctx context.Context, id string) (spec.ContainerView, error) {
	c, err := r.findContainer(id)
	if err != nil {
		return spec.ContainerView{}, err
	}
	select {
	case <-c.done:
		return c.view(), nil
	case <-ctx.Done():
		return spec.ContainerView{}, ctx.Err()
	}
}

// ParseSignal reads "SIGTERM", "TERM", "15", "SIGRTMIN+3" (signal(7); SIGRTMIN is 34, as glibc has it).
func ParseSignal(s string) (unix.Signal, error) {
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if n, err := strconv.Atoi(name); err == nil && n > 0 && n <= 64 {
		return unix.Signal(n), nil
	}
	for prefix, base := range map[string]int{"RTMIN": 34, "RTMAX": 64} {
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		n := 0
		if rest != "" {
			var err error
			if n, err = strconv.Atoi(rest); err != nil {
				break
			}
		}
		if sum := base + n; sum >= 34 && sum <= 64 {
			return unix.Signal(sum), nil
		}
	}
	if n := unix.SignalNum("SIG" + name); n != 0 {
		return n, nil
	}
	return 0, spec.Invalidf("%q is not a signal", s)
}

// RemoveOnExit makes the sandbox go when its last container has ended; at once where that has happened.
func (r *Runtime) RemoveOnExit(_ context.Context, sandboxID string) error {
	p, err := r.findPod(sandboxID)
	if err != nil {
		return err
	}
	if err := r.setStatus(p, func(s *spec.SandboxStatus) { s.RemoveOnExit = true }); err != nil {
		return err
	}
	r.removeIfLast(p)
	return nil
}

func (r *Runtime) removeIfLast(p *pod) {
	p.mu.Lock()
	wanted := p.status.RemoveOnExit
	p.mu.Unlock()
	all := p.list()
	for _, c := range all {
		wanted = wanted && c.read().State() == spec.ContainerExited
	}
	if !wanted || len(all) == 0 {
		return
	}
	r.background.Go(func() { r.removeUntilGone(p) })
}

// removeUntilGone removes a sandbox that nobody else will ask to remove. A network may take its time to let it go.
func (r *Runtime) removeUntilGone(p *pod) {
	for pause := time.Second; ; pause = min(2*pause, 5*time.Minute) {
		err := r.RemoveSandbox(r.quit, p.spec.ID)
		if err == nil || errors.Is(err, errdefs.ErrNotFound) || r.quit.Err() != nil {
			return
		}
		r.Log.Error("a sandbox that was to go with its last container is still there", "sandbox", p.spec.ID, "error", err, "again_in", pause)
		select {
		case <-time.After(pause):
		case <-r.quit.Done():
			return
		}
	}
}
