package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFind(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"a/ls": 0o755, "b/ls": 0o755, "b/cat": 0o644, "c/cat": 0o755} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	a, b, c := filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(dir, "c")
	for _, q := range []struct {
		name, path, want string
		err              error
	}{
		{"ls", a + ":" + b, a + "/ls", nil},
		{"ls", dir + "/none:" + b, b + "/ls", nil},
		{"cat", b + ":" + c, c + "/cat", nil},
		{"cat", b, "", unix.EACCES},
		{"rm", a + ":" + b, "", unix.ENOENT},
	} {
		if got, err := find(q.name, q.path); got != q.want || err != q.err {
			t.Errorf("find(%s, %s) = %q, %v", q.name, q.path, got, err)
		}
	}
}

func TestOnlyALoneWordIsLookedUp(t *testing.T) {
	for script, want := range map[string]bool{"ls": true, "ls -l": false, "a=b": false, "ls;": false, "": false, "/bin/ls": false} {
		if word.MatchString(script) != want {
			t.Errorf("%q", script)
		}
	}
}

func TestSegments(t *testing.T) {
	got := segments("       key      shmid perms                  size  cpid\n         0     131072   644               1048576  4711\n-1 7 600 8 9\n")
	for _, want := range []string{"0x00000000 131072     644        1048576", "0xffffffff 7"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
	if strings.Contains(segments("key shmid\n"), "0x") {
		t.Error("a segment that is not there")
	}
}
