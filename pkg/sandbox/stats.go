package sandbox

import (
	"context"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// maxReaders is how many objects are read at one time for a list.
const maxReaders = 4

// ContainerStats is what one container uses, by id or unique prefix. One that does not run has no group to read.
func (r *Runtime) ContainerStats(_ context.Context, id string) (spec.ContainerStats, error) {
	c, err := r.findContainer(id)
	if err != nil {
		return spec.ContainerStats{}, err
	}
	s, err := r.containerStats(c.view(), false)
	if errdefs.IsNotFound(err) { // it ended meanwhile
		s, err = r.containerStats(ended(c.view()), false)
	}
	return s, err
}

// ended makes a view that was taken before an end could be seen say so.
func ended(v spec.ContainerView) spec.ContainerView {
	if v.State == spec.ContainerRunning {
		v.State = spec.ContainerUnknown
	}
	return v
}

// ListContainerStats is what the running containers use that match, oldest first. One that cannot be read, because it
// ended meanwhile or for any other reason, is left out.
func (r *Runtime) ListContainerStats(ctx context.Context, f spec.ContainerFilter) ([]spec.ContainerStats, error) {
	f.State = spec.ContainerRunning
	views, err := r.Containers(ctx, f)
	if err != nil {
		return nil, err
	}
	return r.readContainers(ctx, views, false)
}

func (r *Runtime) readContainers(ctx context.Context, views []spec.ContainerView, detail bool) ([]spec.ContainerStats, error) {
	return readAll(ctx, views, func(v spec.ContainerView) (spec.ContainerStats, bool) {
		if v.State != spec.ContainerRunning {
			return spec.ContainerStats{}, false
		}
		s, err := r.containerStats(v, detail)
		r.unread("container", v.Spec.ID, err)
		return s, err == nil
	})
}

// unread notes why something is missing from a list. What ended meanwhile is nothing to speak of.
func (r *Runtime) unread(what, id string, err error) {
	if err != nil && !errdefs.IsNotFound(err) {
		r.Log.Warn("statistics are left out of a list", what, id, "error", err)
	}
}

func (r *Runtime) containerStats(v spec.ContainerView, detail bool) (spec.ContainerStats, error) {
	dir := filepath.Join(r.Layout.Container(v.Spec.SandboxID, v.Spec.ID), spec.UpperDir)
	s := spec.ContainerStats{Container: v, FsMount: r.Layout.Images()}
	if v.State == spec.ContainerRunning && v.Facts.Started != nil {
		use, nano, err := r.Stats.Group(v.Spec.ID, v.Spec.CgroupPath, time.Unix(0, v.Facts.Started.StartedAt), detail)
		if err != nil {
			return s, err
		}
		s.Group, s.NanoCores = &use, nano
		if detail {
			if s.Detail, err = r.Stats.Detail(v.Spec.CgroupPath, v.Facts.Started.Init.PID, dir); err != nil {
				return s, err
			}
		}
	}
	s.Disk = r.Stats.Disk(v.Spec.ID, dir)
	return s, nil
}

// SandboxStats is what one sandbox uses, by id or unique prefix. One that is not ready uses nothing that could be read.
func (r *Runtime) SandboxStats(ctx context.Context, id string) (spec.SandboxStats, error) {
	p, err := r.findPod(id)
	if err != nil {
		return spec.SandboxStats{}, err
	}
	v := r.podView(p)
	if v.State != spec.SandboxReady {
		return spec.SandboxStats{Sandbox: v}, nil
	}
	s, err := r.sandboxStats(ctx, v, false)
	if errdefs.IsNotFound(err) { // it was stopped meanwhile
		return spec.SandboxStats{Sandbox: v}, nil
	}
	return s, err
}

// ListSandboxStats is what the ready sandboxes use that match, oldest first. One that cannot be read is left out, and a
// part of one that cannot be read is nil.
func (r *Runtime) ListSandboxStats(ctx context.Context, f spec.SandboxFilter) ([]spec.SandboxStats, error) {
	return r.listSandboxes(ctx, f, false)
}

// SandboxMetrics is ListSandboxStats of all, with the details that only metrics tell.
func (r *Runtime) SandboxMetrics(ctx context.Context) ([]spec.SandboxStats, error) {
	return r.listSandboxes(ctx, spec.SandboxFilter{}, true)
}

func (r *Runtime) listSandboxes(ctx context.Context, f spec.SandboxFilter, detail bool) ([]spec.SandboxStats, error) {
	f.State = spec.SandboxReady
	return readAll(ctx, r.sandboxes(f, r.podView), func(v spec.SandboxView) (spec.SandboxStats, bool) {
		s, err := r.sandboxStats(ctx, v, detail)
		r.unread("sandbox", v.Spec.ID, err)
		return s, err == nil
	})
}

func (r *Runtime) sandboxStats(ctx context.Context, v spec.SandboxView, detail bool) (spec.SandboxStats, error) {
	use, nano, err := r.Stats.Group(v.Spec.ID, v.Spec.CgroupPath, time.Unix(0, v.Spec.CreatedAt), detail)
	if err != nil {
		return spec.SandboxStats{}, err
	}
	s := spec.SandboxStats{Sandbox: v, Group: &use, NanoCores: nano}
	if n, err := r.Stats.Processes(v.Spec.CgroupPath); err == nil {
		s.Processes = &n
	} else {
		r.unread("sandbox", v.Spec.ID, err)
	}
	if ownNetwork(v.Spec) {
		s.LinksAt = r.Now()
		links, err := r.Stats.Links(r.Layout.NetnsPin(v.Spec.ID))
		if err == nil {
			s.Links = links
		}
		r.unread("sandbox", v.Spec.ID, err)
	}
	s.Containers, err = r.readContainers(ctx, v.Containers, detail)
	return s, err
}

// readAll reads several at one time and keeps the order of what could be read. Only the end of ctx is an error.
func readAll[In, Out any](ctx context.Context, in []In, read func(In) (Out, bool)) ([]Out, error) {
	all, good := make([]Out, len(in)), make([]bool, len(in))
	next := make(chan int)
	var wait sync.WaitGroup
	for range min(maxReaders, len(in), runtime.GOMAXPROCS(0)) {
		wait.Go(func() {
			for i := range next {
				if ctx.Err() == nil {
					all[i], good[i] = read(in[i])
				}
			}
		})
	}
	for i := range in {
		next <- i
	}
	close(next)
	wait.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	out := make([]Out, 0, len(in))
	for i, ok := range good {
		if ok {
			out = append(out, all[i])
		}
	}
	return out, nil
}
