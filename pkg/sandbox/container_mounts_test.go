package sandbox

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// borrowed counts the images that are in use without a record.
type borrowed struct {
	fakeImages
	mu  sync.Mutex
	now int
}

func (b *borrowed) Use(ctx context.Context, ref string) (spec.ImageUse, func(), error) {
	use, _, err := b.fakeImages.Use(ctx, ref)
	if err != nil {
		return use, nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now++
	return use, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.now--
	}, nil
}

func (b *borrowed) left() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

func TestImagesOfMountsAreInUse(t *testing.T) {
	w, dir := newWorld(), t.TempDir()
	images := &borrowed{fakeImages: fakeImages{w}}
	r := newRuntime(t, w, dir, func(o *Options) { o.Images = images })
	sid, _ := mustRun(t, r, "p")
	before := len(r.ImagesInUse())
	req := containerRequest("mounts")
	req.Mounts = []spec.Mount{
		{ContainerPath: "/a", HostPath: dir}, {ContainerPath: "/b", Image: "busybox"}, {ContainerPath: "/c", Image: "busybox", ImageSubPath: "data", UserImage: "busybox:latest"},
	}
	cid, err := r.CreateContainer(t.Context(), sid, req)
	if err != nil {
		t.Fatal(err)
	}
	v, err := r.Container(t.Context(), cid)
	if err != nil {
		t.Fatal(err)
	}
	if m := v.Spec.MountImages; len(m) != 2 || m[1].UserImage != "busybox" || m[2].UserImage != "busybox:latest" {
		t.Errorf("the record has %+v", m)
	}
	if got := len(r.ImagesInUse()); got != before+3 || images.left() != 0 {
		t.Errorf("%d images in use, %d borrowed", got, images.left())
	}
	// A successor knows them from the record.
	r.Close()
	r = newRuntime(t, w, dir, func(o *Options) { o.Images = images })
	if got := len(r.ImagesInUse()); got != before+3 {
		t.Errorf("after a restart %d images in use", got)
	}
	if err := r.RemoveContainer(t.Context(), cid); err != nil || len(r.ImagesInUse()) != before {
		t.Errorf("%v, %d in use", err, len(r.ImagesInUse()))
	}
}

func TestImagesOfMountsRefused(t *testing.T) {
	w := newWorld()
	images := &borrowed{fakeImages: fakeImages{w}}
	r := newRuntime(t, w, t.TempDir(), func(o *Options) { o.Images = images })
	sid, _ := mustRun(t, r, "p")
	good := spec.Mount{ContainerPath: "/a", Image: "busybox"}
	for name, m := range map[string]spec.Mount{
		"no such image": {ContainerPath: "/b", Image: "nowhere"},
		"no such path":  {ContainerPath: "/b", Image: "busybox", ImageSubPath: "none"},
	} {
		req := containerRequest("c2")
		req.Mounts = []spec.Mount{good, m}
		_, err := r.CreateContainer(t.Context(), sid, req)
		if !errors.Is(err, errdefs.ErrNotFound) || !strings.HasPrefix(err.Error(), "ImageVolumeMountFailed: mounts[1]") {
			t.Errorf("%s: %v", name, err)
		}
		if images.left() != 0 {
			t.Errorf("%s: %d images are held", name, images.left())
		}
	}
}

func TestPIDTarget(t *testing.T) {
	w := newWorld()
	r := newRuntime(t, w, t.TempDir(), nil)
	sid, main := mustRun(t, r, "p")
	other, _ := mustRun(t, r, "q")
	looking := func(name, target string) spec.ContainerRequest {
		req := containerRequest(name)
		req.Security.Namespaces.PID, req.Security.Namespaces.Target = spec.NamespaceTarget, target
		return req
	}
	cid, err := r.CreateContainer(t.Context(), sid, looking("debug", main[:20]))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.StartContainer(t.Context(), cid); err != nil {
		t.Fatal(err)
	}
	v, err := r.Container(t.Context(), cid)
	if err != nil || v.Spec.PIDTarget != main {
		t.Errorf("its target is %q, %v", v.Spec.PIDTarget, err)
	}
	c, _ := r.findContainer(cid)
	l, err := r.launchOf(c)
	m, _ := r.findContainer(main)
	if err != nil || l.PIDOwner == nil || *l.PIDOwner != m.read().Started.Init {
		t.Errorf("the creator is told %+v, %v", l.PIDOwner, err)
	}
	for name, c := range map[string]struct {
		sid, target string
		kind        error
	}{
		"of another pod": {other, main, errdefs.ErrInvalidArgument},
		"unknown":        {sid, "ff", errdefs.ErrNotFound},
		"a sandbox":      {sid, sid, errdefs.ErrNotFound},
	} {
		if _, err := r.CreateContainer(t.Context(), c.sid, looking("x", c.target)); !errors.Is(err, c.kind) {
			t.Errorf("%s: %v", name, err)
		}
	}
	late, err := r.CreateContainer(t.Context(), sid, looking("late", main))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.StopContainer(t.Context(), main, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := r.CreateContainer(t.Context(), sid, looking("later", main)); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("a target that has ended: %v", err)
	}
	if err := r.StartContainer(t.Context(), late); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("started beside a target that has ended: %v", err)
	}
	if got := stateOf(t, r, late); got != "exited 128 StartError" {
		t.Errorf("it is %s", got)
	}
	if err := r.RemoveContainer(t.Context(), main); err != nil {
		t.Fatal(err)
	}
	if err := r.RemoveContainer(t.Context(), late); err != nil {
		t.Error(err)
	}
}
