package namespaces

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

func TestSeenFromInside(t *testing.T) {
	m := newManager(t)
	r := request()
	r.UIDs = []spec.IDMapping{{ContainerID: 0, HostID: 0x40000000, Size: 1000}, {ContainerID: 5000, HostID: 0x40010000, Size: 7}}
	create(t, m, r)
	for script, want := range map[string]string{
		"cat /proc/self/uid_map | tr -s ' '":                "0 1073741824 1000\n 5000 1073807360 7",
		"cat /proc/self/gid_map | tr -s ' '":                "0 1073741824 65536",
		"cat /proc/self/setgroups":                          "allow",
		"id -u":                                             "0",
		"hostname":                                          "pod-1.example",
		"cat /proc/sys/net/ipv4/ping_group_range":           "0\t65535",
		"cat /proc/sys/net/ipv4/ip_unprivileged_port_start": "0",
		"cat /proc/sys/kernel/shmmni":                       "77",
		"cat /proc/sys/fs/mqueue/msg_max":                   "11",
		"ip -o link show up | wc -l":                        "1",
		"ip -o addr show lo | grep -o '127.0.0.1/8'":        "127.0.0.1/8",
		"ip -o addr show lo | grep -o '::1/128'":            "::1/128",
	} {
		if got := inside(t, m, sid, script); got != strings.TrimSpace(want) {
			t.Errorf("%s: %q, want %q", script, got, want)
		}
	}
}

func TestNoProcessStaysAndPodsAreDisjoint(t *testing.T) {
	m := newManager(t)
	a, b := request(), request()
	b.SandboxID = strings.Repeat("b", 64)
	b.UIDs = []spec.IDMapping{{HostID: 0x40010000, Size: 65536}}
	create(t, m, a)
	create(t, m, b)
	for _, kind := range pinned {
		x, y, mine := nsOf(t, m.pin(sid, kind)), nsOf(t, m.pin(b.SandboxID, kind)), nsOf(t, "/proc/self/ns/"+kind)
		if x == y || x == mine || y == mine {
			t.Errorf("%s namespaces %d, %d, the node's %d are not three", kind, x, y, mine)
		}
	}
	procs, _ := filepath.Glob("/proc/[0-9]*/ns/net")
	for _, p := range procs {
		var st unix.Stat_t
		if unix.Stat(p, &st) == nil && st.Ino == nsOf(t, m.pin(sid, "net")) {
			t.Errorf("%s is still in the pod", p)
		}
	}
	if got := len(mountsBelow(t, m.o.Layout.Run+"/ns")); got != 6 {
		t.Errorf("%d pins below the run directory, want 6", got)
	}
}

func TestOnlyWhatIsAskedIsMade(t *testing.T) {
	m := newManager(t)
	for name, r := range map[string]spec.NamespaceRequest{
		"nothing":      {SandboxID: sid},
		"net alone":    {SandboxID: sid, Net: true, Sysctls: map[string]string{"net.ipv4.ip_forward": "1"}},
		"without user": {SandboxID: sid, Net: true, IPC: true, UTS: true, Hostname: "h"},
	} {
		t.Run(name, func(t *testing.T) {
			create(t, m, r)
			for kind, on := range map[string]bool{"user": r.User, "net": r.Net, "ipc": r.IPC, "uts": r.UTS} {
				if _, err := openPin(m.pin(sid, kind)); (err == nil) != on || !on && !errors.Is(err, os.ErrNotExist) {
					t.Errorf("%s: %v, want made=%v", kind, err, on)
				}
			}
		})
	}
	host, _ := os.Hostname()
	if host == "h" {
		t.Error("the node's host name was set")
	}
}

func TestRefusals(t *testing.T) {
	m := newManager(t)
	sysctl := func(k, v string) func(*spec.NamespaceRequest) {
		return func(r *spec.NamespaceRequest) { r.Sysctls = map[string]string{k: v} }
	}
	ids := func(lines ...spec.IDMapping) func(*spec.NamespaceRequest) {
		return func(r *spec.NamespaceRequest) { r.UIDs = lines }
	}
	for name, c := range map[string]struct {
		change func(*spec.NamespaceRequest)
		says   string
	}{
		"id with a slash":    {func(r *spec.NamespaceRequest) { r.SandboxID = "../x" }, "file name"},
		"id .":               {func(r *spec.NamespaceRequest) { r.SandboxID = "." }, "file name"},
		"no id":              {func(r *spec.NamespaceRequest) { r.SandboxID = "" }, "file name"},
		"host name wide":     {func(r *spec.NamespaceRequest) { r.Hostname = strings.Repeat("h", 65) }, "longer than 64"},
		"host name newline":  {func(r *spec.NamespaceRequest) { r.Hostname = "a\nb" }, "letters"},
		"host name NUL":      {func(r *spec.NamespaceRequest) { r.Hostname = "a\x00b" }, "letters"},
		"host name of node":  {func(r *spec.NamespaceRequest) { r.UTS = false }, "UTS"},
		"maps without user":  {func(r *spec.NamespaceRequest) { r.User = false }, "without a user namespace"},
		"no map":             {ids(), "id 0"},
		"no root":            {ids(spec.IDMapping{ContainerID: 1, HostID: 5, Size: 5}), "id 0"},
		"empty map":          {ids(spec.IDMapping{}), "empty"},
		"overlap inside":     {ids(line(0, 100, 10), line(9, 500, 10)), "overlap"},
		"overlap outside":    {ids(line(0, 100, 10), line(50, 109, 10)), "overlap"},
		"map wraps":          {ids(line(0, 1<<32-2, 10)), "past the last"},
		"map wraps inside":   {ids(line(0, 5, 1), line(1<<32-2, 100, 10)), "past the last"},
		"sysctl of node":     {sysctl("kernel.core_pattern", "x"), "node's"},
		"sysctl up":          {sysctl("net.ipv4..core", "x"), "no namespace"},
		"sysctl dotdot":      {sysctl("net/../kernel/core_pattern", "x"), "no namespace"},
		"sysctl absolute":    {sysctl("/net/ipv4/ip_forward", "x"), "no namespace"},
		"sysctl plus":        {sysctl("1024 65535+kernel.core_pattern", "|/x"), "no namespace"},
		"sysctl newline":     {sysctl("net.ipv4.ip_forward\n", "1"), "no namespace"},
		"sysctl value line":  {sysctl("net.ipv4.ip_forward", "1\n"), "line break"},
		"sysctl value NUL":   {sysctl("net.ipv4.ip_forward", "\x00"), "NUL"},
		"sysctl value long":  {sysctl("net.ipv4.ip_forward", strings.Repeat("1", 5000)), "4000 bytes"},
		"sysctl other net":   {func(r *spec.NamespaceRequest) { r.Net = false }, "net namespace"},
		"sysctl twice":       {func(r *spec.NamespaceRequest) { r.Sysctls["net/ipv4/ping_group_range"] = "1 1" }, "twice"},
		"unknown sysctl":     {sysctl("net.ipv4.no_such_thing", "1"), "net/ipv4/no_such_thing"},
		"value refused":      {sysctl("net.ipv4.ping_group_range", "zero"), "ping_group_range"},
		"value + other path": {sysctl("net.ipv4.ip_local_port_range", "1024 65535+kernel.core_pattern=|/x"), "ip_local_port_range"},
		"a directory":        {sysctl("net.ipv4.conf", "1"), "net/ipv4/conf"},
	} {
		t.Run(name, func(t *testing.T) {
			r := request()
			r.Sysctls = maps.Clone(r.Sysctls)
			c.change(&r)
			err := m.Create(t.Context(), r)
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want InvalidArgument with %q", err, c.says)
			}
			if err := m.Remove(context.Background(), sid); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestSysctlPath(t *testing.T) {
	for name, want := range map[string]string{"net.ipv4.ip_forward": "net/ipv4/ip_forward", "kernel.sem": "kernel/sem",
		"net.ipv4.conf.eth0/1.rp_filter": "net/ipv4/conf/eth0.1/rp_filter", "net/ipv4/conf/eth0.1/rp_filter": "net/ipv4/conf/eth0.1/rp_filter",
		"": "", "x": "x", "..": "//"} {
		if got := sysctlPath(name); got != want {
			t.Errorf("%q is %q, want %q", name, got, want)
		}
	}
}

// TestEveryStepFails makes every step of Create fail, and every step of the Remove that follows; then a Remove takes
// away whatever is left, and a Create over the leftovers works as on a clean node.
func TestEveryStepFails(t *testing.T) {
	m := newManager(t)
	var names []string
	m.o.Observe = func(e step.Event) error {
		if e.Phase == step.Doing || e.Phase == step.Undoing {
			names = append(names, string(e.Phase)+" "+e.Step)
		}
		return nil
	}
	if err := errors.Join(m.Create(t.Context(), request()), m.Remove(t.Context(), sid)); err != nil {
		t.Fatal(err)
	}
	if len(names) != 7+7 {
		t.Fatalf("steps %q", names)
	}
	for _, name := range names {
		planted, hit := errors.New("planted"), false
		m.o.Observe = func(e step.Event) error {
			if string(e.Phase)+" "+e.Step == name {
				hit = true
				return planted
			}
			return nil
		}
		err := errors.Join(m.Create(t.Context(), request()), m.Remove(t.Context(), sid))
		if !hit || !errors.Is(err, planted) {
			t.Errorf("%s: hit %v, %v", name, hit, err)
		}
		m.Create(t.Context(), request())
		m.o.Observe = nil
		if err := m.Create(t.Context(), request()); err != nil {
			t.Errorf("create over the leftovers of %s: %v", name, err)
		}
		if got := inside(t, m, sid, "hostname; id -u"); got != "pod-1.example\n0" {
			t.Errorf("after %s: %q", name, got)
		}
		for range 2 {
			if err := m.Remove(t.Context(), sid); err != nil {
				t.Errorf("remove after %s: %v", name, err)
			}
		}
		clean(t, m, name)
	}
}

func clean(t *testing.T, m *Manager, when string) {
	t.Helper()
	for _, dir := range []string{m.o.Layout.Run + "/ns", m.o.Layout.Netns} {
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%s: %v is left in %s, %v", when, left, dir, err)
		}
		if left := mountsBelow(t, dir+"/"); len(left) > 0 {
			t.Errorf("%s: mounts %q", when, left)
		}
	}
}

// TestRemoveIsLazy: a pin that somebody uses goes all the same, and so do several mounts on one path.
func TestRemoveIsLazy(t *testing.T) {
	m := newManager(t)
	create(t, m, request())
	f, err := openPin(m.pin(sid, "net"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Mount(m.pin(sid, "net"), m.pin(sid, "net"), "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	if err := m.Remove(t.Context(), sid); err != nil {
		t.Fatal(err)
	}
	clean(t, m, "removed while open")
}

// TestCancelledCreate leaves no holder.
func TestCancelledCreate(t *testing.T) {
	m := newManager(t)
	for i := range 30 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*200*time.Microsecond)
		err := m.Create(ctx, request())
		cancel()
		if err != nil && !errdefs.IsDeadlineExceeded(err) && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %d00 µs: %v", 2*i, err)
		}
		if err := m.Remove(t.Context(), sid); err != nil {
			t.Fatal(err)
		}
	}
	clean(t, m, "cancelled")
	tasks, _ := filepath.Glob("/proc/self/task/*/children")
	for _, task := range tasks {
		if kids, _ := os.ReadFile(task); len(kids) > 0 {
			t.Errorf("children %s", kids)
		}
	}
}

func BenchmarkCreateRemove(b *testing.B) {
	base := b.TempDir()
	l := spec.Layout{Run: filepath.Join(base, "run"), Netns: filepath.Join(base, "netns")}
	if err := PrepareRun(l); err != nil {
		b.Fatal(err)
	}
	defer unmount(l.Netns)
	defer ReleaseRun(l)
	m := New(Options{Layout: l, Init: program})
	var create, remove time.Duration
	for b.Loop() {
		began := time.Now()
		if err := m.Create(b.Context(), request()); err != nil {
			b.Fatal(err)
		}
		made := time.Now()
		if err := m.Remove(b.Context(), sid); err != nil {
			b.Fatal(err)
		}
		create, remove = create+made.Sub(began), remove+time.Since(made)
	}
	b.ReportMetric(float64(create.Microseconds())/float64(b.N), "µs/create")
	b.ReportMetric(float64(remove.Microseconds())/float64(b.N), "µs/remove")
}

func line(inside, outside, size uint32) spec.IDMapping {
	return spec.IDMapping{ContainerID: inside, HostID: outside, Size: size}
}
