package cgroup

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	godbus "github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/cgroups"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func TestChooseDriver(t *testing.T) {
	for _, c := range []struct {
		wanted Driver
		mode   Mode
		init   bool
		want   Driver
		kind   error
	}{
		{Auto, Unified, true, Systemd, nil},
		{Auto, Unified, false, Cgroupfs, nil},
		{Auto, Hybrid, true, Cgroupfs, nil},
		{Auto, Legacy, false, Cgroupfs, nil},
		{Cgroupfs, Unified, true, Cgroupfs, nil},
		{Systemd, Unified, true, Systemd, nil},
		{Systemd, Unified, false, "", errdefs.ErrFailedPrecondition},
		{Systemd, Hybrid, true, "", errdefs.ErrFailedPrecondition},
		{"", Unified, true, "", errdefs.ErrInvalidArgument},
		{"crun", Unified, true, "", errdefs.ErrInvalidArgument},
	} {
		got, err := choose(c.wanted, c.mode, c.init)
		if got != c.want || !errors.Is(err, c.kind) {
			t.Errorf("%q on %s, systemd is init: %v: %q, %v, want %q, %v", c.wanted, c.mode, c.init, got, err, c.want, c.kind)
		}
	}
}

func TestUnitResources(t *testing.T) {
	r := &spec.Resources{
		CPUShares: 1024, CPUQuota: 50000, CPUPeriod: 100000, CPUSetCPUs: "0-1", MemoryLimit: 1 << 20, MemorySwap: 2 << 20,
		HugepageLimits: []spec.HugepageLimit{{PageSize: "2MB", Limit: 4 << 20}}, Unified: map[string]string{"memory.high": "1000"},
	}
	want := &cgroups.Resources{
		SkipDevices: true, CpuWeight: 100, CpuQuota: 50000, CpuPeriod: 100000, CpusetCpus: "0-1", Memory: 1 << 20, MemorySwap: 2 << 20,
		HugetlbLimit: []*cgroups.HugepageLimit{{Pagesize: "2MB", Limit: 4 << 20}}, Unified: map[string]string{"memory.high": "1000"},
	}
	want.CpuWeight = unitResources(&spec.Resources{CPUShares: 1024}).CpuWeight
	if want.CpuWeight < 30 || want.CpuWeight > 110 { // both of the kernel community's formulas
		t.Errorf("1024 shares are weight %d", want.CpuWeight)
	}
	if d := cmp.Diff(want, unitResources(r)); d != "" {
		t.Errorf("resources (-want +got):\n%s", d)
	}
	noSwap := &spec.Resources{MemoryLimit: 1 << 20, MemorySwap: 1 << 20}
	if got := unitResources(noSwap).Unified["memory.swap.max"]; got != "0" {
		t.Errorf("no swap is a property of %q", got)
	}
	noSwap.Unified = map[string]string{"memory.swap.max": "7"}
	if got := unitResources(noSwap).Unified["memory.swap.max"]; got != "7" {
		t.Errorf("a key of the request's own became %q", got)
	}
	if d := cmp.Diff(&cgroups.Resources{SkipDevices: true}, unitResources(nil)); d != "" {
		t.Errorf("nothing asked (-want +got):\n%s", d)
	}
}

// fakeUnits notes what is asked, and fails or hangs where it is told to.
type fakeUnits struct {
	root  string
	asked []string
	fail  map[string]error
	hang  chan struct{}
}

func (f *fakeUnits) note(what, path string) error {
	if f.hang != nil {
		<-f.hang
		return nil
	}
	f.asked = append(f.asked, what+" "+path)
	return f.fail[what]
}

func (f *fakeUnits) start(path string, pid int) error {
	err := f.note("start", path)
	if err == nil && f.hang == nil {
		err = os.MkdirAll(filepath.Join(f.root, path), 0o755)
	}
	return err
}
func (f *fakeUnits) set(path string, _ *cgroups.Resources) error { return f.note("set", path) }
func (f *fakeUnits) stop(path string) error {
	if err := f.note("stop", path); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(f.root, path))
}

// fakeTree is a directory with the files of a v2 hierarchy's root and one slice that units are made in.
func fakeTree(t *testing.T) (*Manager, *fakeUnits) {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{root, root + "/p.slice", root + "/p.slice/p-1.slice"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, f := range []string{"cgroup.controllers", "cgroup.subtree_control", "cgroup.procs"} {
			if err := os.WriteFile(filepath.Join(dir, f), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	f := &fakeUnits{root: root, fail: map[string]error{}}
	return &Manager{node: Node{Mode: Unified, Root: root, Unified: root}, units: f}, f
}

func TestSlicesAreAskedOf(t *testing.T) {
	const slice, scope = "/p.slice/p-1.slice", "/p.slice/p-1.slice/runtimed-1-init.scope"
	m, f := fakeTree(t)
	if err := m.Create(t.Context(), slice, nil); err != nil {
		t.Fatalf("create: %v", err)
	}
	if err := m.CreateLeaf(t.Context(), scope); err != nil {
		t.Fatalf("create a leaf: %v", err)
	}
	if exists(filepath.Join(f.root, scope)) {
		t.Error("a scope is made before it has a process: systemd would end it")
	}
	if err := m.Join(scope, 77); err != nil {
		t.Fatalf("join: %v", err)
	}
	for range 2 {
		if err := m.Remove(t.Context(), scope); err != nil {
			t.Fatalf("remove the scope: %v", err)
		}
		if err := m.Remove(t.Context(), slice); err != nil {
			t.Fatalf("remove the slice: %v", err)
		}
	}
	want := []string{"start " + slice, "set " + slice, "start " + scope, "stop " + scope, "stop " + slice}
	if !slices.Equal(f.asked, want) {
		t.Errorf("asked %q, want %q", f.asked, want)
	}
}

func TestWhatSystemdRefuses(t *testing.T) {
	const slice = "/p.slice/p-1.slice"
	for _, c := range []struct {
		what string
		err  error
		kind error
	}{
		{"start", godbus.Error{Name: "org.freedesktop.DBus.Error.InvalidArgs"}, errdefs.ErrInvalidArgument},
		{"set", godbus.Error{Name: "org.freedesktop.DBus.Error.AccessDenied"}, errdefs.ErrInternal},
		{"start", errors.New("no bus"), errdefs.ErrInternal},
	} {
		m, f := fakeTree(t)
		f.fail[c.what] = c.err
		if err := m.Create(t.Context(), slice, nil); !errors.Is(err, c.kind) {
			t.Errorf("%s fails with %v: %v, want %v", c.what, c.err, err, c.kind)
		}
		f.fail = map[string]error{"stop": c.err}
		if err := m.Remove(t.Context(), slice); !errors.Is(err, c.kind) {
			t.Errorf("stop fails with %v: %v, want %v", c.err, err, c.kind)
		}
	}
	m, f := fakeTree(t)
	f.hang = make(chan struct{})
	defer close(f.hang)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := m.Create(ctx, slice, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("systemd hangs: %v", err)
	}
}

func TestWithoutSystemdAUnitIsAGroup(t *testing.T) {
	m, _ := fakeTree(t)
	m.units = nil
	if m.unit("/p.slice/p-1.slice") {
		t.Error("a manager without systemd would ask it")
	}
}
