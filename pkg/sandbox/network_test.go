package sandbox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

var errHeld = spec.Errorf(errdefs.ErrUnavailable, "the network does not let go")

// gone waits until the sandbox is not there.
func gone(t *testing.T, r *Runtime, sid string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if _, err := r.Sandbox(t.Context(), sid); errors.Is(err, errdefs.ErrNotFound) {
			return
		}
	}
	t.Fatalf("sandbox %s is still there", sid)
}

// TestNetworkThatDoesNotLetGo: the processes are dead and the sandbox is NOTREADY, and the record stays until it does.
func TestNetworkThatDoesNotLetGo(t *testing.T) {
	w := newWorld()
	r := newRuntime(t, w, t.TempDir(), nil)
	sid, cid := mustRun(t, r, "a")
	w.setFail("net unmake", errHeld)
	for range 2 {
		if err := r.StopSandbox(t.Context(), sid); !errors.Is(err, errdefs.ErrUnavailable) {
			t.Errorf("Stop: %v", err)
		}
		if err := r.RemoveSandbox(t.Context(), sid); !errors.Is(err, errdefs.ErrUnavailable) {
			t.Errorf("Remove: %v", err)
		}
	}
	v, err := r.Sandbox(t.Context(), sid)
	if err != nil || v.State != spec.SandboxNotReady || len(v.Containers) != 1 || v.Containers[0].State != spec.ContainerExited {
		t.Errorf("%+v, %v", v, err)
	}
	w.setFail("net unmake", nil)
	if err := r.RemoveSandbox(t.Context(), sid); err != nil {
		t.Error(err)
	}
	if left := append(w.left(), records(t, r)...); len(left) > 0 {
		t.Errorf("left behind of %s: %v", cid, left)
	}
}

// TestRemoveOnExitIsTriedAgain: nobody else asks for it.
func TestRemoveOnExitIsTriedAgain(t *testing.T) {
	w := newWorld()
	r := newRuntime(t, w, t.TempDir(), nil)
	sid, cid := mustRun(t, r, "a")
	if err := r.RemoveOnExit(t.Context(), sid); err != nil {
		t.Fatal(err)
	}
	w.setFail("net unmake", errHeld)
	w.exit(cid, 0)
	for {
		if v, err := r.Sandbox(t.Context(), sid); err != nil || v.State == spec.SandboxNotReady {
			break
		}
		time.Sleep(time.Millisecond)
	}
	w.setFail("net unmake", nil)
	gone(t, r, sid)
	if left := append(w.left(), records(t, r)...); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// hangingNetwork does not let go until it is told to.
type hangingNetwork struct {
	fakeNetwork
	release chan struct{}
}

func (h hangingNetwork) Remove(ctx context.Context, id string, last *spec.NetworkResult) error {
	select {
	case <-h.release:
		return h.fakeNetwork.Remove(ctx, id, last)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestRecoverWaitsForNoNetwork: it returns, what runs is watched, and what must go goes when the network lets it.
func TestRecoverWaitsForNoNetwork(t *testing.T) {
	w := newWorld()
	dir := t.TempDir()
	first := newRuntime(t, w, dir, nil)
	_, cid := mustRun(t, first, "runs")
	half, _ := mustRun(t, first, "other")
	first.Close()
	if err := os.Remove(filepath.Join(first.Layout.Sandbox(half), spec.StatusFile)); err != nil {
		t.Fatal(err)
	}
	release := make(chan struct{})
	r := newRuntime(t, w, dir, func(o *Options) { o.Network = hangingNetwork{fakeNetwork{w}, release} })
	v, err := r.Container(t.Context(), cid)
	if err != nil || v.State != spec.ContainerRunning {
		t.Errorf("%+v, %v", v, err)
	}
	w.exit(cid, 3)
	if v, err = r.Wait(t.Context(), cid); err != nil || v.Facts.Ended().Code != 3 {
		t.Errorf("%+v, %v", v, err)
	}
	close(release)
	gone(t, r, half)
}
