package untar

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/image/layer"
	"github.com/runtimed/runtimed/pkg/image/rootfs"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// FuzzApply applies any bytes on a small layer: nothing beside the target changes, and an error has a kind.
func FuzzApply(f *testing.F) {
	reg := func(name, data string) tar.Header {
		return tar.Header{Typeflag: tar.TypeReg, Name: name, Linkname: data, Mode: 0o644}
	}
	low := archive(f, reg("d/a", "low"), reg("d/s/x", ""), tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "/d"},
		tar.Header{Typeflag: tar.TypeSymlink, Name: "up", Linkname: "../../.."})
	for _, h := range [][]tar.Header{
		{reg("l/n", "x"), reg("up/canary/file", "bad")}, {reg("d/.wh..wh..opq", ""), reg("d/a", "y")}, {reg(".wh.d", ""), reg("d/n", "")},
		{{Typeflag: tar.TypeLink, Name: "h", Linkname: "d/a"}, {Typeflag: tar.TypeChar, Name: "c", Devmajor: 1, Devminor: 3}},
		{{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o7777, PAXRecords: map[string]string{"SCHILY.xattr.user.k": "v"}}},
	} {
		f.Add(archive(f, h...))
	}
	f.Add([]byte{})
	base := f.TempDir()
	lower := filepath.Join(base, "lower")
	os.Mkdir(lower, 0o755)
	if _, err := apply(f, lower, nil, layer.Limits{}, bytes.NewReader(low)); err != nil {
		f.Fatal(err)
	}
	canary := filepath.Join(base, "canary")
	os.Mkdir(canary, 0o755)
	os.WriteFile(canary+"/file", []byte("canary"), 0o644)
	limits := layer.Limits{Bytes: 4 << 20, Entries: 500, Depth: 30, Ratio: 100}
	f.Fuzz(func(t *testing.T, data []byte) {
		before := [3]unix.Stat_t{stat(t, canary), stat(t, canary+"/file"), stat(t, lower+"/d/a")}
		target, err := os.MkdirTemp(base, "t")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(target)
		r, err := apply(t, target, []string{lower}, limits, bytes.NewReader(data))
		if err != nil && spec.KindOf(err) == nil {
			t.Fatalf("no kind: %v", err)
		}
		if r.Bytes < 0 || r.Bytes > limits.Bytes || r.Entries < 0 || r.Entries > limits.Entries {
			t.Fatalf("%+v", r)
		}
		after := [3]unix.Stat_t{stat(t, canary), stat(t, canary+"/file"), stat(t, lower+"/d/a")}
		for i := range after {
			before[i].Atim, after[i].Atim = unix.Timespec{}, unix.Timespec{}
		}
		if before != after {
			t.Fatal("something beside the target changed")
		}
	})
}

// FuzzStream decompresses any bytes: it ends, with a kind of error or a digest.
func FuzzStream(f *testing.F) {
	f.Add([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 1, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x24, 3, 25, 0, 0, 'a', 'b', 'c', 0, 0, 0, 0})
	limits := layer.Limits{Bytes: 8 << 20, Ratio: 100}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, c := range []string{layer.Gzip, layer.Zstd, layer.None} {
			s, err := newStream(bytes.NewReader(data), c, limits)
			if err != nil {
				t.Fatal(err)
			}
			err = s.Drain()
			if err == nil {
				s.Digest()
			} else if spec.KindOf(err) == nil {
				t.Fatalf("%s: no kind: %v", c, err)
			}
			s.Close()
		}
	})
}

// FuzzName looks up the parents of any name.
func FuzzName(f *testing.F) {
	for _, s := range []string{"a/b", "../x", "/", "l/x", "up/up/x", "loop/x", ""} {
		f.Add(s)
	}
	lower := f.TempDir()
	os.MkdirAll(lower+"/a/b", 0o755)
	for name, target := range map[string]string{"l": "a", "up": "../../..", "loop": "loop", "abs": "/a/b"} {
		os.Symlink(target, lower+"/"+name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if len(name) > 200 {
			return
		}
		target, err := os.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer target.Close()
		s, err := rootfs.OpenStack([]string{lower})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		tree, err := newTree(int(target.Fd()), s, layer.Limits{Depth: 20}.WithDefaults())
		if err != nil {
			t.Fatal(err)
		}
		defer tree.close()
		d, err := tree.directory(clean(name), true)
		if err != nil {
			return
		}
		var want, got unix.Stat_t
		if err := unix.Fstat(d.fd, &got); err != nil {
			t.Fatal(err)
		}
		if err := unix.Lstat(filepath.Join(target.Name(), d.path), &want); err != nil || want.Ino != got.Ino {
			t.Fatalf("%q is at %q: %v", name, d.path, err)
		}
	})
}
