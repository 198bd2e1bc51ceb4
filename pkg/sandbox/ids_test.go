package sandbox

import (
	"errors"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// mapped asks for explicit maps from the given id of the node on.
func mapped(name string, hostID uint32) spec.SandboxRequest {
	r := podRequest(name)
	m := []spec.IDMapping{{HostID: hostID, Size: 65536}}
	r.Security.Namespaces.User = spec.UserNamespace{Mode: spec.NamespacePod, UIDs: m, GIDs: m}
	return r
}

func TestNoTwoPodsShareAnID(t *testing.T) {
	const pool = 0x40000000
	for _, c := range []struct {
		name   string
		first  spec.SandboxRequest
		second spec.SandboxRequest
		want   uint32 // where the second one's ids begin; 0: it is refused
	}{
		{"two from the pool", podRequest("a"), podRequest("b"), pool + 65536},
		{"an explicit one in the pool, then one from it", mapped("a", pool), podRequest("b"), pool + 65536},
		{"an explicit one across two ranges of the pool", mapped("a", pool+1), podRequest("b"), pool + 2*65536},
		{"one from the pool, then an explicit one over it", podRequest("a"), mapped("b", pool+65535), 0},
		{"the same explicit one twice", mapped("a", 100000), mapped("b", 100000), 0},
		{"explicit ones with one id in common", mapped("a", 100000), mapped("b", 165535), 0},
		{"explicit ones side by side", mapped("a", 100000), mapped("b", 165536), 165536},
	} {
		r := newRuntime(t, newWorld(), t.TempDir(), nil)
		first, err := r.RunSandbox(t.Context(), c.first)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		id, err := r.RunSandbox(t.Context(), c.second)
		if c.want == 0 {
			if !errors.Is(err, errdefs.ErrFailedPrecondition) || len(records(t, r)) != 1 {
				t.Errorf("%s: %v, records %v", c.name, err, records(t, r))
			}
			// What was held is free when its holder is gone.
			if err := r.RemoveSandbox(t.Context(), first); err != nil {
				t.Fatal(err)
			}
			if _, err := r.RunSandbox(t.Context(), c.second); err != nil {
				t.Errorf("%s: after the removal: %v", c.name, err)
			}
			continue
		}
		v, verr := r.Sandbox(t.Context(), id)
		if err != nil || verr != nil || v.Spec.Profile.UIDs[0].HostID != c.want || v.Spec.Profile.GIDs[0].HostID != c.want {
			t.Errorf("%s: %+v, %v, %v", c.name, v.Spec.Profile, err, verr)
		}
	}
}

func TestASuccessorKnowsWhichIDsAreHeld(t *testing.T) {
	w, dir := newWorld(), t.TempDir()
	old := newRuntime(t, w, dir, nil)
	for _, q := range []spec.SandboxRequest{mapped("a", 0x40000000), podRequest("b")} {
		if _, err := old.RunSandbox(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	old.cancel()
	old.background.Wait()
	r := newRuntime(t, w, dir, nil)
	id, err := r.RunSandbox(t.Context(), podRequest("c"))
	if err != nil {
		t.Fatal(err)
	}
	if v, _ := r.Sandbox(t.Context(), id); v.Spec.Profile.UIDs[0].HostID != 0x40000000+2*65536 {
		t.Errorf("%+v", v.Spec.Profile.UIDs)
	}
}

// A kubelet's second attempt at a pod brings the same maps while the first one's remains are still there.
func TestAttemptsOfOnePodShareItsIDs(t *testing.T) {
	r := newRuntime(t, newWorld(), t.TempDir(), nil)
	q := mapped("a", 100000)
	id, err := r.RunSandbox(t.Context(), q)
	if err == nil {
		err = r.StopSandbox(t.Context(), id)
	}
	q.Metadata.Attempt++
	if err == nil {
		_, err = r.RunSandbox(t.Context(), q)
	}
	if err != nil {
		t.Error(err)
	}
}
