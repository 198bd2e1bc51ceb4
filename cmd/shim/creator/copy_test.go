package creator

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func copyDir(t *testing.T, src, dst string, b *budget) error {
	t.Helper()
	from, err := os.Open(src)
	must(t, err)
	defer from.Close()
	to, err := os.Open(dst)
	must(t, err)
	defer to.Close()
	return copyTree(from, to, b)
}

func plenty() *budget { return &budget{entries: 1 << 20, bytes: 1 << 40} }

// describe tells all of an entry that a copy keeps.
func describe(t *testing.T, root string) string {
	t.Helper()
	var out strings.Builder
	must(t, filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		must(t, unix.Lstat(path, &st))
		rel, _ := filepath.Rel(root, path)
		fmt.Fprintf(&out, "%s %o %d:%d %d", rel, st.Mode, st.Uid, st.Gid, st.Mtim.Nano())
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			b, err := os.ReadFile(path)
			must(t, err)
			fmt.Fprintf(&out, " %d links %q", st.Nlink, b)
		case unix.S_IFLNK:
			to, err := os.Readlink(path)
			must(t, err)
			fmt.Fprintf(&out, " -> %s", to)
		}
		for _, x := range []string{"user.a", "security.capability", "trusted.x"} {
			value := make([]byte, 100)
			if n, err := unix.Lgetxattr(path, x, value); err == nil {
				fmt.Fprintf(&out, " %s=%x", x, value[:n])
			}
		}
		out.WriteByte('\n')
		return nil
	}))
	return out.String()
}

func TestCopyTree(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()
	at := func(name string) string { return filepath.Join(src, name) }
	must(t, os.MkdirAll(at("a/b/c"), 0o755))
	must(t, os.WriteFile(at("a/file"), []byte("content"), 0o600))
	must(t, os.Link(at("a/file"), at("a/b/second")))
	must(t, os.Link(at("a/file"), at("third")))
	must(t, os.Chown(at("a/file"), 12, 34))
	must(t, os.WriteFile(at("suid"), nil, 0o600))
	must(t, os.Chown(at("suid"), 56, 78))
	must(t, unix.Chmod(at("suid"), 0o6755))
	must(t, os.WriteFile(at("capable"), nil, 0o755))
	// cap_net_raw in the permitted set, revision 2 (linux/capability.h).
	must(t, unix.Lsetxattr(at("capable"), "security.capability", []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0))
	must(t, unix.Lsetxattr(at("a"), "user.a", []byte("x"), 0))
	must(t, os.Symlink("/etc/shadow", at("soft")))
	must(t, os.Lchown(at("soft"), 1, 2))
	must(t, unix.Mknod(at("fifo"), unix.S_IFIFO|0o624, 0))
	must(t, unix.Mknod(at("socket"), unix.S_IFSOCK|0o777, 0))
	must(t, unix.Chmod(src, 0o1777))
	must(t, os.Chown(src, 9, 9))
	for _, p := range []string{at("a/file"), at("a/b/c"), at("a/b"), at("a"), src} {
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{{Sec: 5}, {Sec: 1e9, Nsec: 5000}}, 0))
	}
	want := describe(t, src)
	must(t, copyDir(t, src, dst, plenty()))
	if got := describe(t, dst); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestCopyLeavesOut(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()
	must(t, unix.Mknod(src+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(t, unix.Mknod(src+"/whiteout", unix.S_IFCHR, 0))
	must(t, unix.Mknod(src+"/disk", unix.S_IFBLK|0o666, int(unix.Mkdev(8, 0))))
	must(t, os.Mkdir(src+"/opaque", 0o755))
	must(t, unix.Lsetxattr(src+"/opaque", "trusted.overlay.opaque", []byte("y"), 0))
	must(t, copyDir(t, src, dst, plenty()))
	entries, err := os.ReadDir(dst)
	must(t, err)
	if len(entries) != 1 || entries[0].Name() != "opaque" {
		t.Errorf("copied %v", entries)
	}
	if _, err := unix.Lgetxattr(dst+"/opaque", "trusted.overlay.opaque", make([]byte, 9)); err == nil {
		t.Error("overlayfs' own attribute was copied")
	}
}

func TestCopyIsBounded(t *testing.T) {
	src := t.TempDir()
	for i := range 10 {
		must(t, os.WriteFile(fmt.Sprintf("%s/%d", src, i), make([]byte, 100), 0o600))
	}
	for name, b := range map[string]*budget{"entries": {entries: 9, bytes: 1 << 20}, "bytes": {entries: 100, bytes: 999}} {
		if err := copyDir(t, src, t.TempDir(), b); err == nil || !strings.Contains(err.Error(), "more than") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	must(t, copyDir(t, src, t.TempDir(), &budget{entries: 10, bytes: 1000}))
	deep := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(deep, strings.Repeat("d/", maxDepth+1)), 0o755))
	if err := copyDir(t, deep, t.TempDir(), plenty()); err == nil || !strings.Contains(err.Error(), "nested deeper") {
		t.Errorf("deep: got %v", err)
	}
	deep = t.TempDir()
	must(t, os.MkdirAll(filepath.Join(deep, strings.Repeat("d/", maxDepth)), 0o755))
	must(t, copyDir(t, deep, t.TempDir(), plenty()))
}

func TestOpenInRoot(t *testing.T) {
	root := t.TempDir()
	must(t, os.MkdirAll(root+"/etc/in", 0o755))
	must(t, os.WriteFile(root+"/file", nil, 0o644))
	for name, to := range map[string]string{"up": "../../../etc", "abs": "/etc", "loop": "loop", "proc": "/proc/self/root"} {
		must(t, os.Symlink(to, filepath.Join(root, name)))
	}
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	for name, want := range map[string]error{
		"/etc": nil, "/up": nil, "/abs": nil, "/../../etc": nil, "/up/in": nil, "/absent": unix.ENOENT, "/file": unix.ENOTDIR,
		"/file/x": unix.ENOTDIR, "/loop": unix.ELOOP, "/proc": unix.ELOOP,
	} {
		f, err := openInRoot(fd, name)
		if !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("%s: got %v, want %v", name, err, want)
		}
		if err == nil {
			if real, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd())); !strings.HasPrefix(real, root+"/etc") {
				t.Errorf("%s is %s", name, real)
			}
			f.Close()
		}
	}
}
