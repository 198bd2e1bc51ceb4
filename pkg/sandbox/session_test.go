package sandbox

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func TestExec(t *testing.T) {
	w := newWorld()
	r := newRuntime(t, w, t.TempDir(), nil)
	_, cid := mustRun(t, r, "a")
	var out bytes.Buffer
	req := spec.StreamRequest{ContainerID: cid[:13], Command: []string{"sh"}, Streams: spec.Streams{Stdout: &out}}
	if code, err := r.Exec(t.Context(), req); err != nil || code != 3 || out.String() != cid+" sh" {
		t.Errorf("got %q, %d, %v", out.String(), code, err)
	}
	for name, c := range map[string]struct {
		change func(q *spec.StreamRequest)
		kind   error
	}{
		"no container": {func(q *spec.StreamRequest) { q.ContainerID = "ffff" }, errdefs.ErrNotFound},
		"no id":        {func(q *spec.StreamRequest) { q.ContainerID = "" }, errdefs.ErrInvalidArgument},
		"no command":   {func(q *spec.StreamRequest) { q.Command = nil }, errdefs.ErrInvalidArgument},
		"no program":   {func(q *spec.StreamRequest) { q.Command = []string{"", "x"} }, errdefs.ErrInvalidArgument},
	} {
		q := req
		c.change(&q)
		if _, err := r.Exec(t.Context(), q); !errors.Is(err, c.kind) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if err := r.StopContainer(t.Context(), cid, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Exec(t.Context(), req); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("after its end: %v", err)
	}
}

func TestAttach(t *testing.T) {
	r := newRuntime(t, newWorld(), t.TempDir(), nil)
	sid, cid := mustRun(t, r, "a")
	ctx, cancel := context.WithCancel(t.Context())
	in, out := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- r.Attach(ctx, cid[:13], spec.Streams{Stdout: out}) }()
	if got := make([]byte, len(cid)); true {
		if _, err := io.ReadFull(in, got); err != nil || string(got) != cid {
			t.Errorf("%q, %v", got, err)
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("who left: %v", err)
	}
	if err := r.Attach(t.Context(), "ffff", spec.Streams{Stdout: out}); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("no container: %v", err)
	}
	if err := r.Attach(t.Context(), cid, spec.Streams{}); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("no streams: %v", err)
	}
	if err := r.StopContainer(t.Context(), cid, 0); err != nil {
		t.Fatal(err)
	}
	if err := r.Attach(t.Context(), cid, spec.Streams{Stdout: out}); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("after its end: %v", err)
	}
	created, err := r.CreateContainer(t.Context(), sid, containerRequest("d"))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Attach(t.Context(), created, spec.Streams{Stdout: out}); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("before its start: %v", err)
	}
}

// A daemon that stops leaves its attachments, and says so.
func TestAttachEndsWithTheDaemon(t *testing.T) {
	leaving, leave := context.WithCancel(t.Context())
	for name, c := range map[string]struct {
		change func(*Options)
		leave  func(r *Runtime)
	}{
		"told":   {func(o *Options) { o.Leaving = leaving.Done() }, func(*Runtime) { leave() }},
		"closed": {nil, func(r *Runtime) { r.Close() }},
	} {
		r := newRuntime(t, newWorld(), t.TempDir(), c.change)
		_, cid := mustRun(t, r, "a")
		in, out := io.Pipe()
		done := make(chan error, 1)
		go func() { done <- r.Attach(t.Context(), cid, spec.Streams{Stdout: out}) }()
		if _, err := io.ReadFull(in, make([]byte, len(cid))); err != nil {
			t.Fatal(err)
		}
		c.leave(r)
		if err := <-done; !errors.Is(err, errdefs.ErrUnavailable) || !strings.Contains(err.Error(), "attach again") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// What a former daemon's sessions left in running containers is ended before anybody is served; where that fails the
// container is found running all the same.
func TestRecoveryEndsFormerSessions(t *testing.T) {
	w, dir := newWorld(), t.TempDir()
	old := newRuntime(t, w, dir, nil)
	sid, runs := mustRun(t, old, "a")
	if _, err := old.CreateContainer(t.Context(), sid, containerRequest("created")); err != nil {
		t.Fatal(err)
	}
	old.Close()
	w.setFail("sessions end", errPlanted)
	r := newRuntime(t, w, dir, nil)
	if len(w.swept) != 1 || w.swept[0] != runs {
		t.Errorf("swept %q", w.swept)
	}
	if got := stateOf(t, r, runs); got != "running" {
		t.Error(got)
	}
}
