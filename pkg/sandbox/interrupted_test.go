package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/state"
)

// interrupted leaves a container whose daemon died while its creator was at work. It returns what the creator states at
// last.
func interrupted(t *testing.T, w *world, dir string) (sid, cid string, started spec.Started) {
	t.Helper()
	old := newRuntime(t, w, dir, nil)
	sid, cid = mustRun(t, old, "a")
	record := old.Layout.Container(sid, cid)
	if err := state.Read(record, spec.StartedFile, &started); err != nil {
		t.Fatal(err)
	}
	old.cancel()
	old.background.Wait()
	if err := os.Remove(filepath.Join(record, spec.StartedFile)); err != nil {
		t.Fatal(err)
	}
	return sid, cid, started
}

// TestCallsWaitForAnInterruptedStart: until it is known what became of it, nobody starts the container again, and a stop
// does not say that there is nothing to stop.
func TestCallsWaitForAnInterruptedStart(t *testing.T) {
	w, dir := newWorld(), t.TempDir()
	sid, cid, started := interrupted(t, w, dir)
	r := newRuntime(t, w, dir, nil)
	again, stopped := make(chan error, 1), make(chan error, 1)
	go func() { again <- r.StartContainer(t.Context(), cid) }()
	select {
	case err := <-again:
		t.Fatalf("a second start did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if err := state.WriteOnce(r.Layout.Container(sid, cid), spec.StartedFile, started); err != nil {
		t.Fatal(err)
	}
	if err := <-again; !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("second start: %v", err)
	}
	if got := stateOf(t, r, cid); got != "running" {
		t.Fatal(got)
	}
	go func() { stopped <- r.StopContainer(t.Context(), cid, 0) }()
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if got := stateOf(t, r, cid); got != "exited 137 Error" {
		t.Error(got)
	}
}

// TestRemovalEndsAnInterruptedStart: it does not wait for the creator's time to run out.
func TestRemovalEndsAnInterruptedStart(t *testing.T) {
	w, dir := newWorld(), t.TempDir()
	sid, _, _ := interrupted(t, w, dir)
	r := newRuntime(t, w, dir, nil)
	if err := r.RemoveSandbox(t.Context(), sid); err != nil {
		t.Fatal(err)
	}
	r.Close()
	if left := append(w.left(), records(t, r)...); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestCreatorWithoutItsLock: a creator that was let go just before its daemon died, and has not run since, is found by
// its record, and killed before it makes anything.
func TestCreatorWithoutItsLock(t *testing.T) {
	w, dir := newWorld(), t.TempDir()
	sid, cid, _ := interrupted(t, w, dir)
	w.mu.Lock()
	creator := w.shims[cid]
	creator.died = true // as far as its lock tells
	w.mu.Unlock()
	r := newRuntime(t, w, dir, nil)
	if got := stateOf(t, r, cid); got != "exited 128 StartError" {
		t.Errorf("it is %s", got)
	}
	if err := creator.cmd.Wait(); err == nil || creator.cmd.ProcessState.ExitCode() != -1 {
		t.Errorf("the creator ended with %v", err)
	}
	if err := r.RemoveSandbox(t.Context(), sid); err != nil {
		t.Fatal(err)
	}
	if left := append(w.left(), records(t, r)...); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
