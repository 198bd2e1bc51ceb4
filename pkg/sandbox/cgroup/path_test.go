package cgroup

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestCheckParent(t *testing.T) {
	for _, c := range []struct {
		path string
		ok   bool
	}{
		{"", true}, {"/", true}, {"/kubepods", true}, {"/kubepods/burstable/pod-1_2:3@x", true},
		{"/kubepods.slice/kubepods-pod1.slice", true}, {"/…", true}, {"/cgroups", true}, {"/cpu", true},
		{"/" + strings.Repeat("a", 255), true}, {"/..a", true}, {"/a..b", true},
		{"kubepods", false}, {"system.slice:cri:abc", false}, {"..", false}, {".", false}, {"/..", false}, {"/a/..", false},
		{"/a/../b", false}, {"/./a", false}, {"/a//b", false}, {"/a/", false}, {"//", false}, {"/a\x00b", false},
		{"/a\nb", false}, {"/a\x7f", false}, {"/\x1b[31m", false}, {"/" + strings.Repeat("a", 256), false},
		{strings.Repeat("/a", 600), false}, {"/cgroup.procs", false}, {"/a/memory.max", false}, {"/tasks", false},
		{"/release_agent", false}, {"../../x", false}, {"/cpu.max/x", false},
	} {
		err := CheckParent(c.path)
		if (err == nil) != c.ok {
			t.Errorf("CheckParent(%.40q) = %v, want ok=%v", c.path, err, c.ok)
		}
		if err != nil && !errdefs.IsInvalidArgument(err) {
			t.Errorf("CheckParent(%.40q): kind of %v", c.path, err)
		}
	}
}

// TestRootIsNeverOurs: killing or removing at the root would take the machine with it.
func TestRootIsNeverOurs(t *testing.T) {
	m := New(Node{Mode: Legacy, Root: t.TempDir()}, nil)
	for _, path := range []string{"", "/", "/..", "/a/..", "a"} {
		for name, err := range map[string]error{"Create": m.Create(t.Context(), path, nil),
			"CreateLeaf": m.CreateLeaf(t.Context(), path), "Join": m.Join(path, 1), "Kill": m.Kill(t.Context(), path),
			"Remove": m.Remove(t.Context(), path), "RemoveEmpty": m.RemoveEmpty(path)} {
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("%s(%q) = %v, want InvalidArgument", name, path, err)
			}
		}
	}
}

func FuzzCheckParent(f *testing.F) {
	for _, s := range []string{"", "/", "/a/b", "/a/../b", "/\x00", "/cgroup.kill", "//"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if CheckParent(path) != nil || path == "" {
			return
		}
		if path[0] != '/' || strings.Contains(path, "//") || strings.ContainsAny(path, "\x00\n") ||
			strings.Contains(path+"/", "/../") || strings.Contains(path+"/", "/./") {
			t.Errorf("%q was accepted", path)
		}
	})
}
