package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/security"
)

// CreateContainer checks and records a container; nothing of it runs. A call with the same name and attempt in the same
// sandbox joins one in flight, or gets the id of the container that is there. On error nothing is left.
func (r *Runtime) CreateContainer(ctx context.Context, sandboxID string, req spec.ContainerRequest) (string, error) {
	p, err := r.findPod(sandboxID)
	if err != nil {
		return "", err
	}
	name := containerName(req)
	return r.flights.do(ctx, "create "+p.spec.ID+name, func(ctx context.Context) (string, error) {
		if id := p.named(name); id != "" {
			return id, nil
		}
		ctx, cancel := until(ctx, p.stopping, spec.Preconditionf("sandbox %s is being stopped", p.spec.ID))
		defer cancel()
		return r.createContainer(ctx, p, req)
	})
}

func containerName(req spec.ContainerRequest) string {
	return fmt.Sprintf("%q/%d", req.Name, req.Attempt)
}

func (p *pod) named(name string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.names[name]
}

func (r *Runtime) createContainer(ctx context.Context, p *pod, req spec.ContainerRequest) (string, error) {
	if err := r.mustBeReady(p); err != nil {
		return "", err
	}
	image, unuse, err := r.Images.Use(ctx, req.Image)
	if err != nil {
		return "", err
	}
	defer unuse() // from its record on, the container protects its image itself
	mounted, unmount, err := r.borrowMounts(ctx, req)
	if err != nil {
		return "", err
	}
	defer unmount()
	c, err := r.plan(p, req, image)
	if err != nil {
		return "", err
	}
	c.spec.MountImages = mounted
	if _, _, err := r.bundle(c); err != nil { // what cannot be started is refused now, and built again at Start
		return "", err
	}
	release, err := p.op.acquire(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	if err := r.mustBeReady(p); err != nil {
		return "", err
	}
	flow := r.containerFlow(c)
	flow.Steps = flow.Steps[:createSteps]
	if err := flow.Run(ctx); err != nil {
		undo, cancel := detached(ctx)
		defer cancel()
		if uerr := flow.Teardown(undo); uerr != nil {
			r.Log.Error("a container's record could not be undone", "container", c.spec.ID, "error", uerr)
		}
		return "", err
	}
	r.adopt(c)
	r.publish(p, c.spec.ID, spec.EventCreated)
	return c.spec.ID, nil
}

func (r *Runtime) mustBeReady(p *pod) error {
	if p.state(r.bootID) != spec.SandboxReady {
		return spec.Preconditionf("sandbox %s is not ready: it was stopped, or the node was restarted", p.spec.ID)
	}
	return nil
}

// plan makes the record of a container: everything that is decided before anything is done.
func (r *Runtime) plan(p *pod, req spec.ContainerRequest, image spec.ImageUse) (*container, error) {
	image.UserImage = orElse(req.UserImage, req.Image)
	passwd, err := r.imageFile(image.Layers, "/etc/passwd")
	if err != nil {
		return nil, err
	}
	defer passwd.Close()
	group, err := r.imageFile(image.Layers, "/etc/group")
	if err != nil {
		return nil, err
	}
	defer group.Close()
	target, err := r.pidTarget(p, req)
	if err != nil {
		return nil, err
	}
	in := security.ContainerInput{
		Request: req, Sandbox: p.spec, Image: image.Config, Passwd: passwd, Group: group,
		NotIDMappable: func(m spec.Mount) error { return r.Namespaces.CanIDMap(p.spec.ID, m.HostPath) },
	}
	targetID := ""
	if target != nil {
		targetID, in.Target = target.spec.ID, &target.spec
	}
	profile, err := security.ResolveContainer(in, r.Node)
	if err != nil {
		return nil, err
	}
	id := newID()
	return newContainer(p, spec.Container{
		PIDTarget: targetID,
		Version:   spec.RecordVersion, ID: id, SandboxID: p.spec.ID, CreatedAt: r.Now().UnixNano(), BootID: r.bootID,
		Request: req, Image: image, Profile: profile,
		LogPath:    r.logPath(p, req.LogPath),
		StopSignal: orElse(req.StopSignal, orElse(image.Config.StopSignal, "SIGTERM")),
		CgroupPath: spec.ContainerGroup(p.spec.CgroupPath, id),
	}), nil
}

func orElse(s, other string) string {
	if s != "" {
		return s
	}
	return other
}

// logPath is below the sandbox's log directory, which its caller owns; without one the log is kept with the record and
// goes with it.
func (r *Runtime) logPath(p *pod, rel string) string {
	if rel == "" {
		return ""
	}
	dir := p.spec.Request.LogDirectory
	if dir == "" {
		dir = filepath.Join(r.Layout.Sandbox(p.spec.ID), "logs")
	}
	return filepath.Join(dir, rel)
}

// imageFile opens a file of the image; one that is not there reads as empty.
func (r *Runtime) imageFile(layers []string, path string) (io.ReadCloser, error) {
	f, err := r.Images.Open(layers, path)
	if errors.Is(err, fs.ErrNotExist) {
		return io.NopCloser(eof{}), nil
	}
	if err != nil {
		return nil, spec.Errorf(errdefs.ErrFailedPrecondition, "the image's %s: %w", path, err)
	}
	return f, nil
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

// adopt makes a recorded container known.
func (r *Runtime) adopt(c *container) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.containers[c.spec.ID] = c
	c.pod.mu.Lock()
	defer c.pod.mu.Unlock()
	c.pod.containers[c.spec.ID] = c
	c.pod.names[containerName(c.spec.Request)] = c.spec.ID
}

func (r *Runtime) disown(c *container) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.containers, c.spec.ID)
	c.pod.mu.Lock()
	defer c.pod.mu.Unlock()
	delete(c.pod.containers, c.spec.ID)
	if name := containerName(c.spec.Request); c.pod.names[name] == c.spec.ID {
		delete(c.pod.names, name)
	}
}

// RemoveContainer kills the container where it must and takes everything of it away but its log, which belongs to
// whoever named the log directory. Its name is free when this returns.
func (r *Runtime) RemoveContainer(ctx context.Context, id string) error {
	c, err := r.findContainer(id)
	if err != nil {
		return err
	}
	return r.once(ctx, "remove "+c.spec.ID, func(ctx context.Context) error { return r.removeContainer(ctx, c) })
}

func (r *Runtime) removeContainer(ctx context.Context, c *container) error {
	c.halt()
	if err := r.kill(ctx, c); err != nil {
		return err
	}
	release, err := c.op.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := r.containerFlow(c).Teardown(ctx); err != nil {
		return err
	}
	r.disown(c)
	r.publish(c.pod, c.spec.ID, spec.EventDeleted)
	r.Images.Collect()
	return nil
}

// until gives up when stop is closed.
func until(ctx context.Context, stop <-chan struct{}, why error) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-stop:
			cancel(why)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}
