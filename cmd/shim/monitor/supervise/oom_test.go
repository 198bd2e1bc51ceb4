package supervise

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestAboveFile(t *testing.T) {
	for file, want := range map[string]string{
		"/sys/fs/cgroup/a.slice/x.scope/memory.events": "/sys/fs/cgroup/a.slice/memory.events",
		"/a/memory.events": "",
		"/sys/fs/cgroup/memory/a/b/memory.oom_control": "",
		"memory.events": "", "/memory.events": "", "": "",
	} {
		if got := aboveFile(file); got != want {
			t.Errorf("%q: %q, not %q", file, got, want)
		}
	}
}

// TestOOMOfAGroupThatIsGone: scope and pod are files as a kernel shows them.
func TestOOMOfAGroupThatIsGone(t *testing.T) {
	for _, c := range []struct {
		name                string
		scope, pod          int // kills counted while the container ran
		goneFirst, goneThen bool
		code                int
		want                bool
	}{
		{"no kill", 0, 0, false, false, 137, false},
		{"a kill", 1, 1, false, false, 137, true},
		{"a kill of a child", 1, 1, false, false, 0, true},
		{"a kill, then gone", 1, 1, false, true, 137, true},
		{"a kill, gone at once", 1, 1, true, true, 137, true},
		{"no kill, gone at once", 0, 0, true, true, 137, false},
		{"another container's kill", 0, 1, false, false, 137, false},
		{"another container's kill, then gone", 0, 1, false, true, 137, false},
		{"another container's kill, gone at once, a code of its own", 0, 1, true, true, 3, false},
	} {
		pod := t.TempDir()
		scope := filepath.Join(pod, "x.scope")
		count := func(dir string, n int) {
			text := fmt.Sprintf("low 0\nmax 5\noom 9\noom_kill %d\noom_group_kill 0\n", n)
			if err := os.WriteFile(filepath.Join(dir, "memory.events"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Mkdir(scope, 0o700); err != nil {
			t.Fatal(err)
		}
		count(pod, 4)
		count(scope, 0)
		w := watchOOM(filepath.Join(scope, "memory.events"))
		count(pod, 4+c.pod)
		count(scope, c.scope)
		for _, gone := range []bool{c.goneFirst, c.goneThen} {
			if gone {
				os.RemoveAll(scope)
			}
			w.look()
		}
		if got := w.killed(c.code); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	w := watchOOM("")
	w.look()
	if w.killed(137) {
		t.Error("a container without a counter was killed")
	}
}
