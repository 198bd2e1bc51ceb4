package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

// fakeLimits is a kernel with one file for each container: its memory limit.
type fakeLimits struct{ *world }

func (f fakeLimits) PlanUpdate(path string, before, asked spec.Resources) (spec.LimitChange, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.fail["limits plan"]; err != nil {
		return spec.LimitChange{}, err
	}
	return spec.LimitChange{
		Before: before, After: before.Merge(asked),
		Writes: []spec.LimitWrite{{File: path, Old: f.limits[path], New: memoryText(asked)}},
	}, nil
}

func memoryText(r spec.Resources) string { b, _ := json.Marshal(r.MemoryLimit); return string(b) }

func (f fakeLimits) Change(_ context.Context, path string, c spec.LimitChange) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.limits[path] = c.Writes[0].New
	return f.fail["limits change"]
}

func (f fakeLimits) Revert(_ context.Context, path string, c spec.LimitChange) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.fail["limits revert"]; err != nil {
		return err
	}
	f.limits[path] = c.Writes[0].Old
	return nil
}

func (f fakeLimits) Limits(path string, asked spec.Resources) (spec.Resources, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := f.limits[path]; n != "" {
		if err := json.Unmarshal([]byte(n), &asked.MemoryLimit); err != nil {
			return asked, err
		}
	}
	return asked, nil
}

// shown is the memory limit that a status shows, 0 for none.
func shown(t *testing.T, r *Runtime, cid string) int64 {
	t.Helper()
	v, err := r.Container(t.Context(), cid)
	if err != nil {
		t.Fatal(err)
	}
	if v.Resources == nil {
		return 0
	}
	return v.Resources.MemoryLimit
}

func memory(n int64) spec.Resources { return spec.Resources{MemoryLimit: n} }

func TestUpdateOfARunningContainer(t *testing.T) {
	w, dir := newWorld(), t.TempDir()
	r := newRuntime(t, w, dir, nil)
	_, cid := mustRun(t, r, "a")
	for _, n := range []int64{100, 50, 200} {
		if err := r.UpdateContainer(t.Context(), cid[:12], memory(n)); err != nil {
			t.Fatal(err)
		}
		if got := shown(t, r, cid); got != n {
			t.Errorf("%d is shown, not %d", got, n)
		}
	}
	if err := r.UpdateContainer(t.Context(), cid, spec.Resources{}); err != nil {
		t.Errorf("nothing asked for: %v", err)
	}
	r.Close()
	if got := shown(t, newRuntime(t, w, dir, nil), cid); got != 200 {
		t.Errorf("after a restart %d is shown", got)
	}
}

// TestUpdateOfACreatedContainer: it starts with the limits that it was given.
func TestUpdateOfACreatedContainer(t *testing.T) {
	w, dir := newWorld(), t.TempDir()
	r := newRuntime(t, w, dir, nil)
	sid, _ := mustRun(t, r, "a")
	cid, err := r.CreateContainer(t.Context(), sid, containerRequest("late"))
	if err == nil {
		err = r.UpdateContainer(t.Context(), cid, spec.Resources{MemoryLimit: 77 << 20, OOMScoreAdj: 500})
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := r.UpdateContainer(t.Context(), cid, spec.Resources{Unified: map[string]string{"pids.max": "-3"}}); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("what cannot be started is taken: %v", err)
	}
	r.Close()
	r = newRuntime(t, w, dir, nil)
	if got := shown(t, r, cid); got != 77<<20 {
		t.Errorf("after a restart %d is shown", got)
	}
	if err := r.StartContainer(t.Context(), cid); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(r.Layout.Container(sid, cid), spec.ConfigFile))
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Process struct{ OOMScoreAdj int }
		Linux   struct {
			Resources struct{ Memory struct{ Limit int64 } }
		}
	}
	if err := json.Unmarshal(b, &config); err != nil || config.Linux.Resources.Memory.Limit != 77<<20 || config.Process.OOMScoreAdj != 500 {
		t.Errorf("it was started with %+v, %v", config, err)
	}
}

func TestUpdateOfWhatHasEnded(t *testing.T) {
	r := newRuntime(t, newWorld(), t.TempDir(), nil)
	_, cid := mustRun(t, r, "a")
	if err := r.StopContainer(t.Context(), cid, 0); err != nil {
		t.Fatal(err)
	}
	for _, asked := range []spec.Resources{memory(1), {}} {
		if err := r.UpdateContainer(t.Context(), cid, asked); !errors.Is(err, errdefs.ErrFailedPrecondition) {
			t.Errorf("%+v: %v", asked, err)
		}
	}
	if err := r.UpdateContainer(t.Context(), "none", memory(1)); !errors.Is(err, errdefs.ErrNotFound) {
		t.Error(err)
	}
}

// TestAnUpdateThatFailsChangesNothing, whichever step it is.
func TestAnUpdateThatFailsChangesNothing(t *testing.T) {
	var plant string
	w := newWorld()
	r := newRuntime(t, w, t.TempDir(), func(o *Options) {
		o.Observe = func(e step.Event) error {
			if e.Flow == "update" && e.Phase == step.Doing && e.Step == plant {
				return errPlanted
			}
			return nil
		}
	})
	_, cid := mustRun(t, r, "a")
	if err := r.UpdateContainer(t.Context(), cid, memory(100)); err != nil {
		t.Fatal(err)
	}
	attempt := func(name string) {
		t.Helper()
		if err := r.UpdateContainer(t.Context(), cid, memory(999)); !errors.Is(err, errPlanted) {
			t.Fatalf("%s: %v", name, err)
		}
		c, _ := r.findContainer(cid)
		if got := shown(t, r, cid); got != 100 || c.read().Status.Updating != nil || c.limits().MemoryLimit != 100 {
			t.Errorf("%s: %d is shown, status %+v", name, got, c.read().Status)
		}
	}
	for _, s := range r.updateFlow(newContainer(nil, spec.Container{}), spec.LimitChange{}).Steps {
		plant = s.Name
		attempt(s.Name)
	}
	plant = ""
	for _, what := range []string{"limits plan", "limits change"} {
		w.setFail(what, errPlanted)
		attempt(what)
		w.setFail(what, nil)
	}
	// What could not be taken back is tried again before anything else is changed.
	w.setFail("limits change", errPlanted)
	w.setFail("limits revert", errPlanted)
	if err := r.UpdateContainer(t.Context(), cid, memory(999)); !errors.Is(err, errPlanted) {
		t.Fatal(err)
	}
	if err := r.UpdateContainer(t.Context(), cid, memory(5)); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("a change on top of half of one: %v", err)
	}
	w.setFail("limits change", nil)
	w.setFail("limits revert", nil)
	if err := r.UpdateContainer(t.Context(), cid, memory(5)); err != nil || shown(t, r, cid) != 5 {
		t.Errorf("%v; %d is shown", err, shown(t, r, cid))
	}
}

// TestADaemonKilledInAnUpdate: its successor shows, records and has in the kernel the same, wherever it happened.
func TestADaemonKilledInAnUpdate(t *testing.T) {
	killed := errors.New("killed")
	for _, phase := range []step.Phase{step.Doing, step.Done} {
		for _, name := range []string{"journal", "limits", "recorded"} {
			w, dir := newWorld(), t.TempDir()
			r := newRuntime(t, w, dir, func(o *Options) {
				o.Observe = func(e step.Event) error {
					if e.Flow == "update" && e.Step == name && e.Phase == phase {
						panic(killed)
					}
					return nil
				}
			})
			_, cid := mustRun(t, r, "a")
			func() {
				defer func() {
					if p := recover(); p != killed {
						t.Fatalf("%s %s: %v", phase, name, p)
					}
				}()
				r.UpdateContainer(t.Context(), cid, memory(100))
			}()
			r.Close()
			next := newRuntime(t, w, dir, nil)
			want := int64(0)
			if name == "recorded" && phase == step.Done {
				want = 100
			}
			c, err := next.findContainer(cid)
			if err != nil {
				t.Fatal(err)
			}
			w.mu.Lock()
			kernel := w.limits[c.spec.CgroupPath]
			w.mu.Unlock()
			if kernel == "" {
				kernel = "0"
			}
			if got := shown(t, next, cid); got != want || c.limits().MemoryLimit != want || kernel != memoryText(memory(want)) || c.read().Status.Updating != nil {
				t.Errorf("killed %s %s: %d is shown, %d recorded, the kernel has %s, not %d", phase, name, got, c.limits().MemoryLimit, kernel, want)
			}
		}
	}
}

func TestUpdateOfASandboxIsKept(t *testing.T) {
	w, dir := newWorld(), t.TempDir()
	r := newRuntime(t, w, dir, nil)
	sid, _ := mustRun(t, r, "a")
	overhead, resources := memory(1), memory(2)
	if err := r.UpdateSandbox(t.Context(), sid, &overhead, &resources); err != nil {
		t.Fatal(err)
	}
	if err := r.UpdateSandbox(t.Context(), sid, nil, nil); err != nil {
		t.Fatal(err)
	}
	r.Close()
	v, err := newRuntime(t, w, dir, nil).Sandbox(t.Context(), sid)
	if err != nil || !reflect.DeepEqual(v.Status.Overhead, &overhead) || !reflect.DeepEqual(v.Status.Resources, &resources) {
		t.Errorf("%+v, %v", v.Status, err)
	}
	if len(w.limits) != 0 {
		t.Errorf("the kernel was asked for %v", w.limits)
	}
}
