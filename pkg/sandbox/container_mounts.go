package sandbox

import (
	"context"
	"errors"
	"io/fs"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// imageVolumeFailed begins the message of an image that cannot be mounted: cri-api's ErrImageVolumeMountFailed.
const imageVolumeFailed = "ImageVolumeMountFailed"

// borrowMounts finds the images that the request's mounts name, by index, and protects them until release is called. They
// must be in the store, so they have passed the node's trust policy; what a mount wants of one must be in it.
func (r *Runtime) borrowMounts(ctx context.Context, req spec.ContainerRequest) (images map[int]spec.ImageUse, release func(), err error) {
	var held []func()
	release = func() {
		for _, f := range held {
			f()
		}
	}
	for i, m := range req.Mounts {
		if m.Image == "" {
			continue
		}
		use, unuse, err := r.Images.Use(ctx, m.Image)
		if err == nil {
			held = append(held, unuse)
			err = r.checkSubPath(use, m.ImageSubPath)
		}
		if err != nil {
			release()
			return nil, nil, spec.Errorf(spec.KindOf(err), "%s: mounts[%d]: %w", imageVolumeFailed, i, err)
		}
		use.UserImage = orElse(m.UserImage, m.Image)
		if images == nil {
			images = map[int]spec.ImageUse{}
		}
		images[i] = use
	}
	return images, release, nil
}

// checkSubPath refuses now what the creator could not mount later.
func (r *Runtime) checkSubPath(use spec.ImageUse, sub string) error {
	switch _, err := r.Images.Find(use.Layers, "/"+sub); {
	case errors.Is(err, fs.ErrNotExist):
		return spec.NotFoundf("image %q has no file or directory %q", use.ID, sub)
	case err != nil:
		return spec.Errorf(errdefs.ErrFailedPrecondition, "%q in image %q: %w", sub, use.ID, err)
	}
	return nil
}

// pidTarget is the container whose PID namespace the request wants to share: one of the same pod, that runs. It is nil
// where the request wants none.
func (r *Runtime) pidTarget(p *pod, req spec.ContainerRequest) (*container, error) {
	ns := req.Security.Namespaces
	if ns.PID != spec.NamespaceTarget {
		return nil, nil
	}
	c, err := r.findContainer(ns.Target)
	if err != nil {
		return nil, spec.Errorf(spec.KindOf(err), "security.namespaces.target: %w", err)
	}
	if c.pod != p {
		return nil, spec.Invalidf("security.namespaces.target: container %s is of another pod, whose processes are not for this one", c.spec.ID)
	}
	_, err = targetInit(c)
	return c, err
}

// targetInit is the first process of a container that others look into.
func targetInit(c *container) (*spec.Process, error) {
	f := c.read()
	if f.State() != spec.ContainerRunning {
		return nil, spec.Preconditionf("security.namespaces.target: container %s is %s, and only a running one has processes to share", c.spec.ID, f.State())
	}
	init := f.Started.Init
	return &init, nil
}

// pidOwner is the process whose PID namespace the container is to join: its target's, or nil.
func (r *Runtime) pidOwner(c *container) (*spec.Process, error) {
	if c.spec.PIDTarget == "" {
		return nil, nil
	}
	t, err := r.findContainer(c.spec.PIDTarget)
	if err != nil {
		return nil, spec.Preconditionf("security.namespaces.target: container %s was removed", c.spec.PIDTarget)
	}
	return targetInit(t)
}
