package sandbox

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// fakeStats reads what it is told, by the group's last component, the id.
type fakeStats struct {
	group func(id string) error
	links error
	asked atomic.Int32
}

func (f *fakeStats) Group(id, path string, born time.Time, detail bool) (spec.GroupUse, *uint64, error) {
	f.asked.Add(1)
	if !strings.HasSuffix(path, id) || born.IsZero() {
		return spec.GroupUse{}, nil, errors.New("another's group, or no birth: " + path)
	}
	if f.group != nil {
		if err := f.group(id); err != nil {
			return spec.GroupUse{}, nil, err
		}
	}
	nano := uint64(5)
	return spec.GroupUse{At: time.Now(), CPU: spec.CPUUse{Total: 7}}, &nano, nil
}
func (f *fakeStats) Disk(string, string) *spec.DiskUse    { return &spec.DiskUse{Bytes: 9} }
func (f *fakeStats) Links(string) ([]spec.LinkUse, error) { return []spec.LinkUse{}, f.links }
func (f *fakeStats) Processes(string) (uint64, error)     { return 3, nil }
func (f *fakeStats) Detail(string, int, string) (*spec.ContainerDetail, error) {
	return &spec.ContainerDetail{Processes: 2}, nil
}

func TestStatsOfWhatRuns(t *testing.T) {
	f := &fakeStats{}
	r := newRuntime(t, newWorld(), t.TempDir(), func(o *Options) { o.Stats = f })
	pod, running := mustRun(t, r, "a")
	created := mustCreate(t, r, pod, "created")
	s, err := r.ContainerStats(t.Context(), running[:20])
	if err != nil || s.Group == nil || *s.NanoCores != 5 || s.Disk.Bytes != 9 || s.FsMount != r.Layout.Images() || s.Detail != nil {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err := r.ContainerStats(t.Context(), created); err != nil || s.Group != nil || s.Disk == nil {
		t.Errorf("a created container: %+v, %v", s, err)
	}
	for _, err := range []error{second(r.ContainerStats(t.Context(), "none")), second(r.SandboxStats(t.Context(), "none"))} {
		if !errdefs.IsNotFound(err) {
			t.Errorf("what is not there: %v", err)
		}
	}
	list, err := r.ListContainerStats(t.Context(), spec.ContainerFilter{State: spec.ContainerCreated})
	if err != nil || len(list) != 1 || list[0].Container.Spec.ID != running {
		t.Errorf("%+v, %v", list, err)
	}
	p, err := r.SandboxStats(t.Context(), pod)
	if err != nil || p.Group == nil || *p.Processes != 3 || p.Links == nil || len(p.Containers) != 1 {
		t.Errorf("%+v, %v", p, err)
	}
	m, err := r.SandboxMetrics(t.Context())
	if err != nil || len(m) != 1 || m[0].Containers[0].Detail == nil {
		t.Errorf("%+v, %v", m, err)
	}
	if err := r.StopSandbox(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	asked := f.asked.Load()
	if p, err := r.SandboxStats(t.Context(), pod); err != nil || p.Group != nil || p.Sandbox.Spec.ID != pod || f.asked.Load() != asked {
		t.Errorf("a stopped sandbox: %+v, %v", p, err)
	}
	if list, err := r.ListSandboxStats(t.Context(), spec.SandboxFilter{}); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

func second[T any](_ T, err error) error { return err }

// What ends while it is read, and what cannot be read, is left out of lists; one that is asked for alone says what it is.
func TestStatsOfWhatEndsMeanwhile(t *testing.T) {
	f := &fakeStats{links: errors.New("no namespace")}
	r := newRuntime(t, newWorld(), t.TempDir(), func(o *Options) { o.Stats = f })
	bad, first := mustRun(t, r, "bad")
	good, ends := mustRun(t, r, "good")
	ids := []string{first, ends, mustCreate(t, r, good, "more")}
	if err := r.StartContainer(t.Context(), ids[2]); err != nil {
		t.Fatal(err)
	}
	f.group = func(id string) error {
		switch id {
		case bad:
			return errors.New("broken")
		case ids[1]:
			return spec.NotFoundf("gone")
		}
		return nil
	}
	pods, err := r.ListSandboxStats(t.Context(), spec.SandboxFilter{})
	if err != nil || len(pods) != 1 || pods[0].Sandbox.Spec.ID != good || len(pods[0].Containers) != 1 || pods[0].Links != nil {
		t.Errorf("%+v, %v", pods, err)
	}
	list, err := r.ListContainerStats(t.Context(), spec.ContainerFilter{})
	if err != nil || len(list) != 2 || list[0].Container.Spec.ID != ids[0] || list[1].Container.Spec.ID != ids[2] {
		t.Errorf("%+v, %v", list, err)
	}
	if s, err := r.ContainerStats(t.Context(), ids[1]); err != nil || s.Group != nil || s.Disk == nil {
		t.Errorf("one that ends meanwhile: %+v, %v", s, err)
	}
	if _, err := r.SandboxStats(t.Context(), bad); err == nil || errdefs.IsNotFound(err) {
		t.Errorf("one that cannot be read: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.ListContainerStats(ctx, spec.ContainerFilter{}); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that left: %v", err)
	}
}

func mustCreate(t *testing.T, r *Runtime, pod, name string) string {
	t.Helper()
	id, err := r.CreateContainer(t.Context(), pod, containerRequest(name))
	if err != nil {
		t.Fatal(err)
	}
	return id
}
