package rootfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// build makes layer directories, lowest first. A line is "path/" a directory, "path/!" an opaque one, "path=content",
// "path->target", "-path" a whiteout, "path|" a FIFO.
func build(t testing.TB, layers ...string) []string {
	t.Helper()
	var dirs []string
	for _, layer := range layers {
		dir := t.TempDir()
		for line := range strings.FieldsSeq(layer) {
			if err := one(dir, line); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
		}
		dirs = append(dirs, dir)
	}
	return dirs
}

func one(dir, line string) error {
	name, _, _ := strings.Cut(strings.TrimPrefix(line, "-"), "=")
	name, target, isLink := strings.Cut(name, "->")
	path := filepath.Join(dir, strings.TrimRight(name, "/!|"))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	_, content, isFile := strings.Cut(line, "=")
	switch {
	case line[0] == '-':
		return unix.Mknod(path, unix.S_IFCHR, 0)
	case isLink:
		return os.Symlink(target, path)
	case isFile:
		return os.WriteFile(path, []byte(content), 0o644)
	case strings.HasSuffix(line, "|"):
		return unix.Mkfifo(path, 0o644)
	case strings.HasSuffix(line, "!"):
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
		return unix.Setxattr(path, "trusted.overlay.opaque", []byte("y"), 0)
	}
	return os.MkdirAll(path, 0o755)
}

func read(dirs []string, path string) (string, error) {
	f, err := Open(dirs, path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	return string(data), err
}

func TestOpen(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	dirs := build(t,
		"etc/passwd=low etc/group=low usr/bin/tool=low bin->usr/bin gone=low d/x=low d/s/y=low o/x=low f=low w/a=low two/x=low swap/x=low",
		"etc/passwd=mid d/s/z=mid o/! o/new=mid -w f/x=mid two=file abs->/etc/passwd",
		"-gone etc/shadow=top w/b=top two/z=top pipe| loop->loop a->b b->a dots->../../../../etc/passwd out->"+outside+
			" self->. trail->etc/ deep->self/self/self/etc/passwd null->/dev/null cwd->/proc/self/cwd dangling->none empty/ up->usr/bin/../../etc swap=top",
	)
	for path, want := range map[string]string{
		"/etc/passwd": "mid", "etc/passwd": "mid", "/etc/group": "low", "/etc/shadow": "top", "/bin/tool": "low", "//usr//bin/./tool": "low",
		"/../../etc/passwd": "mid", "/etc/../etc/passwd": "mid", "/bin/../../etc/passwd": "mid", "/d/x": "low", "/d/s/y": "low", "/d/s/z": "mid",
		"/o/new": "mid", "/w/b": "top", "/f/x": "mid", "/two/z": "top", "/abs": "mid", "/dots": "mid", "/self/self/etc/passwd": "mid",
		"/trail/group": "low", "/deep": "mid", "/bin/../etc/../bin/tool": "!", "/up/group": "low", "/swap": "top",
	} {
		got, err := read(dirs, path)
		if want == "!" { // ".." behind a link leaves the directory that it leads to
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %q, %v", path, got, err)
			}
			continue
		}
		if err != nil || got != want {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	for _, path := range []string{"/gone", "/none", "/etc/none", "/o/x", "/w/a", "/f", "/two", "/two/x", "/pipe", "/out", "/null", "/cwd", "/dangling",
		"/empty", "/", "", ".", "..", "/etc", "/etc/passwd/x", "/etc/passwd/..", "/swap/x", "/gone/x"} {
		if got, err := read(dirs, path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	for _, path := range []string{"/loop", "/a", "/a/x"} {
		if got, err := read(dirs, path); !errors.Is(err, unix.ELOOP) {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	if _, err := read(dirs, strings.Repeat("x/", 3000)); !errors.Is(err, unix.ENAMETOOLONG) {
		t.Errorf("long: %v", err)
	}
	if _, err := read(dirs, strings.Repeat("x", 300)); err == nil {
		t.Error("a name of 300 bytes")
	}
}

// The merge must be the kernel's: every file that an overlay shows is what Open reads, and no other.
func TestNames(t *testing.T) {
	dirs := build(t, "a=1 b=1 d/x=1 d/y=1 e/x=1 f/x=1", "-a d/y=2 d/z=2 e/! f=2", "-b d/w=3")
	s, err := OpenStack(dirs)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	list := func(d Dir) string {
		var names []string
		if err := s.Names(d, func(n Node, name string) error {
			if n.Path != join(d.Path, name) {
				t.Errorf("%q has the path %q", name, n.Path)
			}
			names = append(names, name)
			return nil
		}); err != nil {
			t.Error(err)
		}
		slices.Sort(names)
		return strings.Join(names, " ")
	}
	if got := list(s.Root()); got != "d e f" {
		t.Error(got)
	}
	for name, want := range map[string]string{"d": "w x y z", "e": "", "f": ""} {
		n, err := s.Lookup(s.Root(), name)
		if err != nil {
			t.Fatal(err)
		}
		if got := list(n.Dir); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
	stop := errors.New("stop")
	if err := s.Names(s.Root(), func(Node, string) error { return stop }); err != stop {
		t.Error(err)
	}
	if got := list(Dir{}); got != "" {
		t.Error(got)
	}
}

// A layer that is changed while it is read is refused, not followed.
func TestReplaced(t *testing.T) {
	dirs := build(t, "d/f=1")
	s, err := OpenStack(dirs)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	n, err := s.Resolve("/d/f")
	if err != nil {
		t.Fatal(err)
	}
	path := dirs[0] + "/d/f"
	for _, change := range []func() error{
		func() error { os.Rename(path, path+".old"); return os.WriteFile(path, nil, 0o644) },
		func() error { os.Remove(path); return os.Symlink("/etc/passwd", path) },
		func() error { os.Remove(path); return unix.Mkfifo(path, 0o644) },
		func() error { return os.Remove(path) },
		func() error { os.RemoveAll(dirs[0] + "/d"); return os.Symlink("/", dirs[0]+"/d") },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if f, err := s.Open(n); err == nil {
			t.Errorf("opened %s", f.Name())
		}
	}
}

func TestLayersMissing(t *testing.T) {
	dir := t.TempDir()
	os.Symlink("/", dir+"/link")
	for _, d := range []string{dir + "/none", dir + "/link", "/etc/passwd"} {
		if _, err := Open([]string{dir, d}, "/etc/passwd"); err == nil {
			t.Errorf("%s is taken as a layer", d)
		}
	}
	if _, err := Open(nil, "/etc/passwd"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no layers: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	outside := filepath.Join(f.TempDir(), "secret")
	os.WriteFile(outside, []byte("secret"), 0o644)
	dirs := build(f, "etc/passwd=in d/s/x=in l->d abs->/etc up->../../../.. out->"+outside, "-d/s d/t=in loop->loop e/! m->l/../etc")
	for _, s := range []string{"/etc/passwd", "l/s/x", "up/etc/passwd", "out", "loop", "m/passwd", "../../x", "a\x00b", "/proc/self/root/etc/passwd"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if got, err := read(dirs, path); err == nil && got != "in" {
			t.Fatalf("%q reads %q", path, got)
		}
	})
}
