package spec_test

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

var (
	sid = strings.Repeat("5a", 32)
	cid = strings.Repeat("c0", 32)
)

func TestPodsGroup(t *testing.T) {
	fs, sd := spec.Groups{Root: "/runtimed"}, spec.Groups{Root: "/runtimed", Systemd: true}
	for _, c := range []struct {
		name         string
		groups       spec.Groups
		parent, want string
	}{
		{"cgroupfs, no parent", fs, "", "/runtimed/pods/" + sid},
		{"cgroupfs, a parent", fs, "/kubepods/pod1", "/kubepods/pod1/" + sid},
		{"cgroupfs, the root", fs, "/", "/" + sid},
		{"cgroupfs, a slice is a name like any other", fs, "/test.slice", "/test.slice/" + sid},
		{"systemd, no parent", sd, "", "/runtimed.slice/runtimed-pods.slice/runtimed-pods-" + sid + ".slice"},
		{"systemd, the kubelet's form", sd, "/kubepods.slice/kubepods-burstable.slice",
			"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-" + sid + ".slice"},
		{"systemd, a name alone", sd, "/kubepods-burstable.slice",
			"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-" + sid + ".slice"},
		{"systemd, without a slash", sd, "test.slice", "/test.slice/test-" + sid + ".slice"},
		{"systemd, the root slice", sd, "/-.slice", "/" + sid + ".slice"},
		{"systemd, a root with a dash", spec.Groups{Root: "/a-b/c", Systemd: true}, "", "/a_b.slice/a_b-c.slice/a_b-c-pods.slice/a_b-c-pods-" + sid + ".slice"},
		{"systemd, a root that is a slice", spec.Groups{Root: "/a.slice/a-b.slice", Systemd: true}, "", "/a.slice/a-b.slice/a-b-pods.slice/a-b-pods-" + sid + ".slice"},
	} {
		got, err := c.groups.Pod(c.parent, sid)
		if err != nil || got != c.want {
			t.Errorf("%s: %q, %v, want %q", c.name, got, err, c.want)
		}
		if _, _, ok := spec.Unit(got); ok != c.groups.Systemd {
			t.Errorf("%s: %s is a unit: %v", c.name, got, ok)
		}
	}
	for _, parent := range []string{"/kubepods/pod1", "/x/kubepods.slice", "/a--b.slice", "/.slice", "/a.slice/b.slice", "/", "/" + strings.Repeat("a", 200) + ".slice"} {
		if got, err := sd.Pod(parent, sid); !errdefs.IsInvalidArgument(err) {
			t.Errorf("systemd, %q: %q, %v, want an invalid argument", parent, got, err)
		}
	}
}

// TestNamesAndIDs: what is named after an id is found by it.
func TestNamesAndIDs(t *testing.T) {
	for _, g := range []spec.Groups{{Root: "/runtimed"}, {Root: "/runtimed", Systemd: true}} {
		pod, err := g.Pod("", sid)
		if err != nil {
			t.Fatal(err)
		}
		container, init, shim := spec.ContainerGroup(pod, cid), spec.InitGroup(pod, sid), g.Shim(cid)
		for path, id := range map[string]string{pod: sid, container: cid} {
			if got := spec.GroupID(path[strings.LastIndexByte(path, '/')+1:]); got != id {
				t.Errorf("%s is of %q", path, got)
			}
		}
		for _, below := range []string{container, init} {
			if !strings.HasPrefix(below, pod+"/") {
				t.Errorf("%s is not below %s", below, pod)
			}
		}
		if !strings.HasPrefix(shim, g.Shims()) || strings.HasPrefix(shim, pod) {
			t.Errorf("the shim's group is %s", shim)
		}
		if !g.Systemd {
			continue
		}
		for _, path := range []string{container, init, shim} {
			name, slice, ok := spec.Unit(path)
			if !ok || !strings.HasSuffix(name, ".scope") || !strings.HasSuffix(slice, ".slice") {
				t.Errorf("%s: unit %q in %q, %v", path, name, slice, ok)
			}
		}
		if got := spec.GroupID("runtimed-" + sid + "-init.scope"); got != sid {
			t.Errorf("the init's scope is of %q", got)
		}
		if got := spec.GroupID("runtimed-" + cid + "-shim.scope"); got != cid {
			t.Errorf("the shim's scope is of %q", got)
		}
		if !strings.HasSuffix(container, "-"+cid+".scope") {
			t.Errorf("%s does not end in -<id>.scope, by which others find it", container)
		}
	}
}

func TestUnits(t *testing.T) {
	for path, want := range map[string][2]string{
		"/a.slice":                     {"a.slice", "-.slice"},
		"/a.slice/a-b.slice":           {"a-b.slice", "a.slice"},
		"/a.slice/x-1.scope":           {"x-1.scope", "a.slice"},
		"/init.scope":                  {"init.scope", "-.slice"},
		"/a.slice/b.slice":             {},
		"/a/x.scope":                   {},
		"/a.slice/x.service":           {},
		"/a.slice/a-b.slice/x.scope/y": {},
		"/a/a-b.slice":                 {},
	} {
		name, slice, ok := spec.Unit(path)
		if ok != (want[0] != "") || ok && (name != want[0] || slice != want[1]) {
			t.Errorf("%s: %q in %q, %v, want %v", path, name, slice, ok, want)
		}
	}
}
