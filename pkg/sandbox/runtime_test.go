package sandbox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

func TestAPodFromNothingToNothing(t *testing.T) {
	w := newWorld()
	r := newRuntime(t, w, t.TempDir(), nil)
	sid, cid := mustRun(t, r, "a")
	if got := stateOf(t, r, cid); got != "running" {
		t.Fatal(got)
	}
	v, err := r.Sandbox(t.Context(), sid[:13])
	if err != nil || v.State != spec.SandboxReady || len(v.Containers) != 1 || v.Network.Addresses[0].IP != "10.0.0.2" {
		t.Fatalf("%+v, %v", v, err)
	}
	if !v.Spec.Profile.UserNamespace || v.Spec.Profile.UIDs[0].HostID != 0x40000000 {
		t.Errorf("a pod that asked for nothing has no range of its own: %+v", v.Spec.Profile)
	}
	if err := r.StopContainer(t.Context(), cid, 0); err != nil {
		t.Fatal(err)
	}
	if got := stateOf(t, r, cid); got != "exited 137 Error" {
		t.Error(got)
	}
	for range 2 { // each verb may be said twice
		if err := r.StopSandbox(t.Context(), sid); err != nil {
			t.Fatal(err)
		}
	}
	if v, _ := r.Sandbox(t.Context(), sid); v.State != spec.SandboxNotReady {
		t.Error(v.State)
	}
	if err := r.RemoveSandbox(t.Context(), sid); err != nil {
		t.Fatal(err)
	}
	if err := r.RemoveSandbox(t.Context(), sid); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("a removed sandbox: %v", err)
	}
	if left := append(w.left(), records(t, r)...); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestEachStepThatFailsLeavesNothing(t *testing.T) {
	probe := newRuntime(t, newWorld(), t.TempDir(), nil)
	for _, s := range probe.podFlow(newPod(spec.Sandbox{ID: newID()})).Steps {
		t.Run("sandbox "+s.Name, func(t *testing.T) {
			w := newWorld()
			r := newRuntime(t, w, t.TempDir(), func(o *Options) {
				o.Observe = func(e step.Event) error {
					if e.Flow == "sandbox" && e.Step == s.Name && e.Phase == step.Doing {
						return errPlanted
					}
					return nil
				}
			})
			if _, err := r.RunSandbox(t.Context(), podRequest("a")); !errors.Is(err, errPlanted) {
				t.Fatalf("got %v", err)
			}
			if left := append(w.left(), records(t, r)...); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			if pods, _ := r.Sandboxes(t.Context(), spec.SandboxFilter{}); len(pods) != 0 || len(r.pods) != 0 || len(r.podKeys) != 0 {
				t.Errorf("still known: %v %v %v", pods, r.pods, r.podKeys)
			}
		})
	}
}

func TestAnUndoThatFailsIsTriedAgain(t *testing.T) {
	for _, what := range []string{"cgroup unmake", "ns unmake", "net unmake", "files unmake", "cgroup kill"} {
		t.Run(what, func(t *testing.T) {
			w := newWorld()
			r := newRuntime(t, w, t.TempDir(), nil)
			sid, err := r.RunSandbox(t.Context(), podRequest("a"))
			if err != nil {
				t.Fatal(err)
			}
			w.setFail(what, errPlanted)
			if err := r.RemoveSandbox(t.Context(), sid); !errors.Is(err, errPlanted) {
				t.Fatalf("got %v", err)
			}
			v, err := r.Sandbox(t.Context(), sid)
			if err != nil || v.State != spec.SandboxNotReady {
				t.Fatalf("it must stay, stopped, until it is gone: %v, %v", v.State, err)
			}
			w.setFail(what, nil)
			if err := r.RemoveSandbox(t.Context(), sid); err != nil {
				t.Fatal(err)
			}
			if left := append(w.left(), records(t, r)...); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestAFailedSandboxThatCannotBeUndoneIsShown(t *testing.T) {
	w := newWorld()
	r := newRuntime(t, w, t.TempDir(), nil)
	w.setFail("files make", errPlanted)
	w.setFail("net unmake", errPlanted)
	if _, err := r.RunSandbox(t.Context(), podRequest("a")); err == nil {
		t.Fatal("no error")
	}
	pods, _ := r.Sandboxes(t.Context(), spec.SandboxFilter{State: spec.SandboxNotReady})
	if len(pods) != 1 {
		t.Fatalf("%d sandboxes are shown", len(pods))
	}
	if _, err := r.RunSandbox(t.Context(), podRequest("a")); !errors.Is(err, errdefs.ErrAlreadyExists) {
		t.Errorf("its name: %v", err)
	}
	w.setFail("files make", nil)
	w.setFail("net unmake", nil)
	if err := r.RemoveSandbox(t.Context(), pods[0].Spec.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := r.RunSandbox(t.Context(), podRequest("a")); err != nil {
		t.Errorf("its name is free: %v", err)
	}
}

func TestAStartThatFailsEndsTheContainer(t *testing.T) {
	for _, c := range []struct{ name, want string }{
		{"mountpoint", "exited 128 StartError"}, {"bundle", "exited 128 StartError"}, {"shim", "exited 128 StartError"},
	} {
		w := newWorld()
		r := newRuntime(t, w, t.TempDir(), func(o *Options) {
			o.Observe = func(e step.Event) error {
				if e.Flow == "container" && e.Step == c.name && e.Phase == step.Doing {
					return errPlanted
				}
				return nil
			}
		})
		sid, err := r.RunSandbox(t.Context(), podRequest("a"))
		if err != nil {
			t.Fatal(err)
		}
		cid, err := r.CreateContainer(t.Context(), sid, containerRequest("c"))
		if err != nil {
			t.Fatal(err)
		}
		if err := r.StartContainer(t.Context(), cid); !errors.Is(err, errPlanted) {
			t.Errorf("%s: %v", c.name, err)
		}
		if got := stateOf(t, r, cid); got != c.want {
			t.Errorf("%s: %s", c.name, got)
		}
		if err := r.StartContainer(t.Context(), cid); !errors.Is(err, errdefs.ErrFailedPrecondition) {
			t.Errorf("%s: an ended container was started: %v", c.name, err)
		}
		if err := r.RemoveSandbox(t.Context(), sid); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if left := append(w.left(), records(t, r)...); len(left) > 0 {
			t.Errorf("%s: left behind: %v", c.name, left)
		}
	}
}

func TestOneHundredEqualCallsMakeOne(t *testing.T) {
	w := newWorld()
	r := newRuntime(t, w, t.TempDir(), nil)
	all := func(call func() (string, error)) map[string]bool {
		ids := map[string]bool{}
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				id, err := call()
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					id = "error: " + err.Error()
				}
				ids[id] = true
			})
		}
		wg.Wait()
		return ids
	}
	sids := all(func() (string, error) { return r.RunSandbox(t.Context(), podRequest("a")) })
	if len(sids) != 1 {
		t.Fatalf("%v", sids)
	}
	var sid string
	for sid = range sids {
	}
	cids := all(func() (string, error) { return r.CreateContainer(t.Context(), sid, containerRequest("c")) })
	if len(cids) != 1 {
		t.Fatalf("%v", cids)
	}
	var cid string
	for cid = range cids {
	}
	for e := range all(func() (string, error) { return "", r.StartContainer(t.Context(), cid) }) {
		if e != "" && !strings.Contains(e, "only a created one can be started") {
			t.Error(e)
		}
	}
	for e := range all(func() (string, error) { return "", r.StopContainer(t.Context(), cid, 0) }) {
		if e != "" {
			t.Error(e)
		}
	}
	for e := range all(func() (string, error) { return "", r.RemoveSandbox(t.Context(), sid) }) {
		if e != "" && !strings.Contains(e, "there is no sandbox") {
			t.Error(e)
		}
	}
	if left := append(w.left(), records(t, r)...); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestACallThatEverybodyLeavesIsUndone(t *testing.T) {
	w := newWorld()
	reached, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	r := newRuntime(t, w, t.TempDir(), func(o *Options) {
		o.Observe = func(e step.Event) error {
			if e.Flow == "sandbox" && e.Step == "network" && e.Phase == step.Done {
				once.Do(func() { close(reached); <-goOn })
			}
			return nil
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() { _, err := r.RunSandbox(ctx, podRequest("a")); first <- err }()
	<-reached
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the caller that left got %v", err)
	}
	close(goOn)
	// A retry waits for the undo and makes a new one.
	if _, err := r.RunSandbox(t.Context(), podRequest("a")); err != nil {
		t.Fatal(err)
	}
	if pods, _ := r.Sandboxes(t.Context(), spec.SandboxFilter{}); len(pods) != 1 || len(records(t, r)) != 1 {
		t.Errorf("%d sandboxes, records %v", len(pods), records(t, r))
	}
}

func TestALostShimIsALostContainer(t *testing.T) {
	w := newWorld()
	r := newRuntime(t, w, t.TempDir(), nil)
	_, cid := mustRun(t, r, "a")
	w.lose(cid)
	v, err := r.Wait(t.Context(), cid)
	if err != nil || v.Facts.Ended().Why() != "ShimLost" || v.Facts.Ended().Code != 137 {
		t.Errorf("%+v, %v", v.Facts, err)
	}
}

func TestRemoveOnExit(t *testing.T) {
	w := newWorld()
	r := newRuntime(t, w, t.TempDir(), nil)
	sid, cid := mustRun(t, r, "a")
	if err := r.RemoveOnExit(t.Context(), sid); err != nil {
		t.Fatal(err)
	}
	w.exit(cid, 0)
	for {
		if _, err := r.Sandbox(t.Context(), sid); errors.Is(err, errdefs.ErrNotFound) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if left := append(w.left(), records(t, r)...); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestRefusals(t *testing.T) {
	r := newRuntime(t, newWorld(), t.TempDir(), nil)
	sid, cid := mustRun(t, r, "a")
	bad := podRequest("b")
	bad.Handler = "kata"
	host := podRequest("h")
	host.Sysctls = map[string]string{"kernel.core_pattern": "x"}
	missing := containerRequest("m")
	missing.Mounts = []spec.Mount{{HostPath: "/no/such/place", ContainerPath: "/x", Propagation: spec.PropagationPrivate}}
	for _, c := range []struct {
		name string
		call func() error
		kind error
	}{
		{"unknown handler", func() error { _, err := r.RunSandbox(t.Context(), bad); return err }, errdefs.ErrNotFound},
		{"the node's sysctl", func() error { _, err := r.RunSandbox(t.Context(), host); return err }, errdefs.ErrInvalidArgument},
		{"no sandbox", func() error { _, err := r.Sandbox(t.Context(), "ffff"); return err }, errdefs.ErrNotFound},
		{"no id", func() error { _, err := r.Sandbox(t.Context(), ""); return err }, errdefs.ErrInvalidArgument},
		{"no container", func() error { return r.StartContainer(t.Context(), "ffff") }, errdefs.ErrNotFound},
		{"started twice", func() error { return r.StartContainer(t.Context(), cid) }, errdefs.ErrFailedPrecondition},
		{"no image", func() error {
			q := containerRequest("x")
			q.Image = "nope"
			_, err := r.CreateContainer(t.Context(), sid, q)
			return err
		}, errdefs.ErrNotFound},
		{"missing host path", func() error { _, err := r.CreateContainer(t.Context(), sid, missing); return err }, errdefs.ErrNotFound},
		{"empty command", func() error {
			_, err := r.ExecSync(t.Context(), spec.ExecRequest{ContainerID: cid})
			return err
		}, errdefs.ErrInvalidArgument},
		{"signal 0", func() error { return r.Signal(t.Context(), cid, 0) }, errdefs.ErrInvalidArgument},
	} {
		if err := c.call(); !errors.Is(err, c.kind) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if got, err := r.Sandboxes(t.Context(), spec.SandboxFilter{ID: "ffff"}); err != nil || len(got) != 0 {
		t.Errorf("a filter for an unknown id: %v, %v", got, err)
	}
	if n := len(records(t, r)); n != 1 {
		t.Errorf("%d records", n)
	}
	if err := r.StopSandbox(t.Context(), sid); err != nil {
		t.Fatal(err)
	}
	if _, err := r.CreateContainer(t.Context(), sid, containerRequest("late")); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("a container in a stopped sandbox: %v", err)
	}
}

func TestFindByPrefix(t *testing.T) {
	all := map[string]int{"aa11": 1, "aa22": 2, "b": 3}
	for _, c := range []struct {
		id   string
		want int
		kind error
	}{
		{"aa11", 1, nil}, {"aa2", 2, nil}, {"b", 3, nil},
		{"aa", 0, errdefs.ErrInvalidArgument}, {"c", 0, errdefs.ErrNotFound}, {"", 0, errdefs.ErrInvalidArgument},
	} {
		got, err := find("thing", all, c.id)
		if got != c.want || (c.kind != nil) != (err != nil) || c.kind != nil && !errors.Is(err, c.kind) {
			t.Errorf("%q: %d, %v", c.id, got, err)
		}
	}
}

func TestParseSignal(t *testing.T) {
	for s, want := range map[string]int{"SIGTERM": 15, "term": 15, "15": 15, "SIGRTMIN+3": 37, "RTMAX": 64, "RTMIN": 34, "64": 64} {
		if got, err := ParseSignal(s); err != nil || int(got) != want {
			t.Errorf("%q: %d, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "0", "65", "SIGNOPE", "RTMIN+99", "RTMIN-1", "RTMAX+1", "-9", "SIG\n"} {
		if got, err := ParseSignal(s); err == nil {
			t.Errorf("%q is signal %d", s, got)
		}
	}
}

// The successor of a daemon that was killed at any point finds what the table says.
func TestRecovery(t *testing.T) {
	for _, c := range []struct {
		name   string
		break_ func(t *testing.T, w *world, r *Runtime, sid, cid string)
		want   string // of the container; "" is: the container is gone
		pod    spec.SandboxState
	}{
		{"nothing happened", func(*testing.T, *world, *Runtime, string, string) {}, "running", spec.SandboxReady},
		{"it ended meanwhile", func(_ *testing.T, w *world, _ *Runtime, _, cid string) { w.exit(cid, 3) }, "exited 3 Error", spec.SandboxReady},
		{"its shim was killed meanwhile", func(_ *testing.T, w *world, _ *Runtime, _, cid string) { w.lose(cid) }, "exited 137 ShimLost", spec.SandboxReady},
		{"its start was interrupted", func(t *testing.T, w *world, r *Runtime, sid, cid string) {
			w.lose(cid)
			os.Remove(filepath.Join(r.Layout.Container(sid, cid), spec.StartedFile))
		}, "exited 128 StartError", spec.SandboxReady},
		{"the netns is gone", func(t *testing.T, w *world, r *Runtime, sid, _ string) { os.Remove(r.Layout.NetnsPin(sid)) },
			"exited 137 Error", spec.SandboxNotReady},
		{"its record is empty", func(t *testing.T, w *world, r *Runtime, sid, cid string) {
			os.Truncate(filepath.Join(r.Layout.Container(sid, cid), spec.SpecFile), 0)
		}, "", spec.SandboxReady},
		{"its started.json is torn", func(t *testing.T, w *world, r *Runtime, sid, cid string) {
			os.Truncate(filepath.Join(r.Layout.Container(sid, cid), spec.StartedFile), 9)
		}, "", spec.SandboxReady},
		{"the sandbox's record is scrambled", func(t *testing.T, w *world, r *Runtime, sid, _ string) {
			os.WriteFile(filepath.Join(r.Layout.Sandbox(sid), spec.SpecFile), []byte("\x00\xff{"), 0o600)
		}, "", ""},
		{"the sandbox's status is empty", func(t *testing.T, w *world, r *Runtime, sid, _ string) {
			os.Truncate(filepath.Join(r.Layout.Sandbox(sid), spec.StatusFile), 0)
		}, "", ""},
		{"its network.json is a directory", func(t *testing.T, w *world, r *Runtime, sid, _ string) {
			p := filepath.Join(r.Layout.Sandbox(sid), spec.NetworkFile)
			os.Remove(p)
			os.Mkdir(p, 0o700)
		}, "", ""},
		{"it never became ready", func(t *testing.T, w *world, r *Runtime, sid, _ string) {
			os.Remove(filepath.Join(r.Layout.Sandbox(sid), spec.StatusFile))
		}, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, dir := newWorld(), t.TempDir()
			old := newRuntime(t, w, dir, nil)
			sid, cid := mustRun(t, old, "a")
			old.cancel()
			old.background.Wait()
			c.break_(t, w, old, sid, cid)
			r := newRuntime(t, w, dir, nil)
			v, err := r.Sandbox(t.Context(), sid)
			if v.State != c.pod || (c.pod == "") != errors.Is(err, errdefs.ErrNotFound) {
				t.Fatalf("sandbox %q, %v", v.State, err)
			}
			if c.want == "" {
				if _, err := r.Container(t.Context(), cid); !errors.Is(err, errdefs.ErrNotFound) {
					t.Errorf("container: %v", err)
				}
			} else if got := stateOf(t, r, cid); got != c.want {
				t.Errorf("container %s, want %s", got, c.want)
			}
			if c.pod == "" {
				if _, err := r.RunSandbox(t.Context(), podRequest("a")); err != nil {
					t.Fatalf("its name must be free: %v", err)
				}
				v, _ := r.Sandboxes(t.Context(), spec.SandboxFilter{})
				if len(v) != 1 || v[0].Spec.Profile.UIDs[0].HostID != 0x40000000 {
					t.Error("its range must be free")
				}
				sid = v[0].Spec.ID
			}
			if err := r.RemoveSandbox(t.Context(), sid); err != nil {
				t.Fatal(err)
			}
			if left := append(w.left(), records(t, r)...); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestAfterARebootEverythingHasEnded(t *testing.T) {
	w, dir := newWorld(), t.TempDir()
	old := newRuntime(t, w, dir, nil)
	sid, cid := mustRun(t, old, "a")
	created, err := old.CreateContainer(t.Context(), sid, containerRequest("never started"))
	if err != nil {
		t.Fatal(err)
	}
	old.cancel()
	old.background.Wait()
	w.lose(cid)
	for _, p := range []string{
		filepath.Join(old.Layout.Sandbox(sid), spec.SpecFile),
		filepath.Join(old.Layout.Container(sid, cid), spec.SpecFile), filepath.Join(old.Layout.Container(sid, created), spec.SpecFile),
	} {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		os.WriteFile(p, []byte(strings.ReplaceAll(string(b), old.bootID, "another-boot")), 0o600)
	}
	r := newRuntime(t, w, dir, nil)
	for _, id := range []string{cid, created} {
		if got := stateOf(t, r, id); got != "exited 255 NodeRebooted" {
			t.Errorf("%s", got)
		}
	}
	if v, _ := r.Sandbox(t.Context(), sid); v.State != spec.SandboxNotReady {
		t.Error(v.State)
	}
	if err := r.RemoveSandbox(t.Context(), sid); err != nil {
		t.Fatal(err)
	}
	if left := append(w.left(), records(t, r)...); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
