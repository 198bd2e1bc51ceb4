package sandbox

import (
	"bytes"
	"errors"
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
