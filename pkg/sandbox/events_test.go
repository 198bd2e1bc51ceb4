package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

// listener collects events in the background.
type listener struct {
	mu   sync.Mutex
	all  []spec.Event
	more chan struct{}
	done chan error
}

// listenEvents returns when the subscription is in force.
func listenEvents(t *testing.T, r *Runtime) *listener {
	t.Helper()
	l := &listener{more: make(chan struct{}, 1), done: make(chan error, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	ready := make(chan struct{})
	go func() {
		l.done <- r.Events(ctx, func() { close(ready) }, func(e spec.Event) error {
			l.mu.Lock()
			l.all = append(l.all, e)
			l.mu.Unlock()
			select {
			case l.more <- struct{}{}:
			default:
			}
			return nil
		})
	}()
	<-ready
	t.Cleanup(func() { cancel(); <-l.done })
	return l
}

// until returns the events when the given one is among them.
func (l *listener) until(t *testing.T, kind spec.EventKind, id string) []spec.Event {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		l.mu.Lock()
		all := slices.Clone(l.all)
		l.mu.Unlock()
		if slices.ContainsFunc(all, func(e spec.Event) bool { return e.Kind == kind && e.ID == id }) {
			return all
		}
		select {
		case <-l.more:
		case <-deadline:
			t.Fatalf("no event %s of %s among %s", kind, id, said(all))
		}
	}
}

func said(all []spec.Event) string {
	var s []string
	for _, e := range all {
		s = append(s, fmt.Sprintf("%s %.4s", e.Kind, e.ID))
	}
	return strings.Join(s, ", ")
}

func TestEventsOfALife(t *testing.T) {
	r := newRuntime(t, newWorld(), t.TempDir(), nil)
	l := listenEvents(t, r)
	begin := time.Now()
	sid, cid := mustRun(t, r, "a")
	for _, err := range []error{r.StopContainer(t.Context(), cid, 0), r.RemoveContainer(t.Context(), cid), r.StopSandbox(t.Context(), sid),
		r.StopSandbox(t.Context(), sid), r.RemoveSandbox(t.Context(), sid)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	all := l.until(t, spec.EventDeleted, sid)
	want := fmt.Sprintf("created %[1]s, started %[1]s, created %[2]s, started %[2]s, stopped %[2]s, deleted %[2]s, stopped %[1]s, deleted %[1]s", sid[:4], cid[:4])
	if said(all) != want {
		t.Errorf("events:\n%s\nnot\n%s", said(all), want)
	}
	last := begin
	for _, e := range all {
		v := e.Sandbox
		if v.Spec.ID != sid || v.Spec.Request.Metadata.Name != "a" || v.Timestamp.Before(last) {
			t.Errorf("%s: of %q, metadata %+v, at %v behind %v", e.Kind, v.Spec.ID, v.Spec.Request.Metadata, v.Timestamp, last)
		}
		last = v.Timestamp
		checkSeen(t, e, sid)
	}
}

// checkSeen: what an event tells of can be seen in it.
func checkSeen(t *testing.T, e spec.Event, sid string) {
	t.Helper()
	v := e.Sandbox
	if e.ID == sid {
		if ready := e.Kind == spec.EventCreated || e.Kind == spec.EventStarted; ready != (v.State == spec.SandboxReady) {
			t.Errorf("%s shows a sandbox that is %s", e.Kind, v.State)
		}
		return
	}
	want := map[spec.EventKind]spec.ContainerState{
		spec.EventCreated: spec.ContainerCreated, spec.EventStarted: spec.ContainerRunning, spec.EventStopped: spec.ContainerExited,
	}[e.Kind]
	i := slices.IndexFunc(v.Containers, func(c spec.ContainerView) bool { return c.Spec.ID == e.ID })
	switch {
	case e.Kind == spec.EventDeleted && i >= 0:
		t.Error("a deleted container is shown")
	case e.Kind != spec.EventDeleted && (i < 0 || v.Containers[i].State != want):
		t.Errorf("%s shows containers %+v", e.Kind, v.Containers)
	case e.Kind == spec.EventStopped && v.Containers[i].Facts.Ended().FinishedAt == 0:
		t.Error("an end without a time")
	}
}

// TestEventsOfManyAreInOrder: whatever happens beside it, a container's events come in the order of its life, each once.
func TestEventsOfManyAreInOrder(t *testing.T) {
	r := newRuntime(t, newWorld(), t.TempDir(), nil)
	l := listenEvents(t, r)
	sid, first := mustRun(t, r, "a")
	const n = 12
	var work sync.WaitGroup
	ids := make([]string, n)
	for i := range n {
		work.Go(func() {
			id, err := r.CreateContainer(t.Context(), sid, containerRequest(fmt.Sprint("c", i)))
			ids[i] = id
			if err == nil {
				err = r.StartContainer(t.Context(), id)
			}
			if err == nil && i%2 == 0 {
				err = r.StopContainer(t.Context(), id, 0)
			}
			if err == nil {
				err = r.RemoveContainer(t.Context(), id)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
	if err := r.RemoveSandbox(t.Context(), sid); err != nil {
		t.Fatal(err)
	}
	all := l.until(t, spec.EventDeleted, sid)
	lives := map[string][]spec.EventKind{}
	last := time.Time{}
	for _, e := range all {
		lives[e.ID] = append(lives[e.ID], e.Kind)
		if e.Sandbox.Timestamp.Before(last) {
			t.Error("an event is older than the one ahead of it")
		}
		last = e.Sandbox.Timestamp
	}
	for _, id := range append(ids, first, sid) {
		if got := lives[id]; !slices.Equal(got, []spec.EventKind{spec.EventCreated, spec.EventStarted, spec.EventStopped, spec.EventDeleted}) {
			t.Errorf("%s: %v", id, got)
		}
	}
}

// TestASlowReaderIsDropped, and neither the others nor what happens notice.
func TestASlowReaderIsDropped(t *testing.T) {
	r := newRuntime(t, newWorld(), t.TempDir(), nil)
	blocked, slow := make(chan struct{}), make(chan error, 1)
	ready := make(chan struct{})
	go func() {
		slow <- r.Events(t.Context(), func() { close(ready) }, func(spec.Event) error { <-blocked; return nil })
	}()
	<-ready
	listenEvents(t, r)
	sid, cid := mustRun(t, r, "a")
	for range eventsKept + 2 {
		r.publish(r.pod(sid), cid, spec.EventStarted)
	}
	if n := r.EventReadersDropped(); n < 1 {
		t.Errorf("%d readers were dropped", n)
	}
	close(blocked)
	if err := <-slow; !errors.Is(err, errdefs.ErrResourceExhausted) || !strings.Contains(err.Error(), "list") {
		t.Errorf("the slow reader is told %v", err)
	}
	again := listenEvents(t, r)
	if err := r.RemoveSandbox(t.Context(), sid); err != nil {
		t.Fatal(err)
	}
	again.until(t, spec.EventDeleted, sid)
}

func TestEventsAreNotOfPodsThatNeverWere(t *testing.T) {
	r := newRuntime(t, newWorld(), t.TempDir(), func(o *Options) {
		o.Observe = func(e step.Event) error {
			if e.Flow == "sandbox" && e.Step == "ready" && e.Phase == step.Doing {
				return errPlanted
			}
			return nil
		}
	})
	if _, err := r.RunSandbox(t.Context(), podRequest("a")); err == nil {
		t.Fatal("no error")
	}
	if sub, early := r.subscribe(); len(early) != 0 || len(sub.ring) != 0 {
		t.Errorf("events %s", said(early))
	}
}

// TestEndsWithoutADaemon: the first reader after a restart is told what ended meanwhile, and what happened before it
// came; what the old daemon has told of is not told again.
func TestEndsWithoutADaemon(t *testing.T) {
	w, dir := newWorld(), t.TempDir()
	r := newRuntime(t, w, dir, nil)
	sid, told := mustRun(t, r, "a")
	if err := r.StopContainer(t.Context(), told, 0); err != nil {
		t.Fatal(err)
	}
	meanwhile, err := r.CreateContainer(t.Context(), sid, containerRequest("meanwhile"))
	if err == nil {
		err = r.StartContainer(t.Context(), meanwhile)
	}
	lost, err2 := r.CreateContainer(t.Context(), sid, containerRequest("lost"))
	if err2 == nil {
		err2 = r.StartContainer(t.Context(), lost)
	}
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	waitGone(t, r.Layout.Rootfs(told))
	r.Close()
	w.exit(meanwhile, 3)
	w.lose(lost)

	next := newRuntime(t, w, dir, nil)
	if err := next.StopSandbox(t.Context(), sid); err != nil {
		t.Fatal(err)
	}
	l := listenEvents(t, next)
	all := l.until(t, spec.EventStopped, sid)
	for id, want := range map[string]int{meanwhile: 1, lost: 1, told: 0} {
		n := 0
		for _, e := range all {
			if e.ID == id && e.Kind == spec.EventStopped {
				n++
				checkSeen(t, e, sid)
			}
		}
		if n != want {
			t.Errorf("%d ends of %s are told of among %s", n, id, said(all))
		}
	}
	if _, early := next.subscribe(); len(early) != 0 {
		t.Errorf("a second reader is told %s", said(early))
	}
}

func waitGone(t *testing.T, path string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := os.Lstat(path); err != nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is still there", path)
		}
	}
}

func TestMissedEventsAreBounded(t *testing.T) {
	r := newRuntime(t, newWorld(), t.TempDir(), nil)
	sid, cid := mustRun(t, r, "a")
	for range 2 * eventsMissed {
		r.publish(r.pod(sid), cid, spec.EventStarted)
	}
	if _, early := r.subscribe(); len(early) != eventsMissed {
		t.Errorf("%d events were kept", len(early))
	}
}

func TestEventsEndWithTheirCallerAndWithTheRuntime(t *testing.T) {
	r := newRuntime(t, newWorld(), t.TempDir(), nil)
	ctx, cancel := context.WithCancel(t.Context())
	if err := r.Events(ctx, cancel, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that left: %v", err)
	}
	if err := r.Events(t.Context(), r.cancel, nil); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("the end of the daemon: %v", err)
	}
	if n := len(r.events.readers); n != 0 {
		t.Errorf("%d readers stay", n)
	}
}
