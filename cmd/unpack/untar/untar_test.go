package untar

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/image/layer"
	"github.com/runtimed/runtimed/pkg/image/rootfs"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func TestMain(m *testing.M) {
	unix.Umask(0)
	os.Exit(m.Run())
}

// apply applies an archive in this process, without the jail.
func apply(t testing.TB, target string, lower []string, limits layer.Limits, blob io.Reader) (layer.Result, error) {
	t.Helper()
	d, err := os.Open(target)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	s, err := rootfs.OpenStack(lower)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	return Apply(Job{Blob: blob, Compression: layer.None, Target: d, Lower: s, Limits: limits.WithDefaults()})
}

func archive(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		h.Format = tar.FormatPAX // keeps nanoseconds
		data := h.Linkname
		if h.Typeflag != tar.TypeReg {
			data = ""
		} else {
			h.Linkname, h.Size = "", int64(len(data))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, data)
	}
	w.Close()
	return b.Bytes()
}

// stack applies archives one on the other and returns their directories, lowest first.
func stack(t testing.TB, archives ...[]byte) []string {
	t.Helper()
	var dirs []string
	for i, a := range archives {
		dir := t.TempDir()
		if _, err := apply(t, dir, dirs, layer.Limits{}, bytes.NewReader(a)); err != nil {
			t.Fatalf("layer %d: %v", i, err)
		}
		dirs = append(dirs, dir)
	}
	return dirs
}

func stat(t testing.TB, path string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return st
}

// A directory that an upper layer only implies keeps what it was: owner, mode, times, extended attributes.
func TestImpliedParent(t *testing.T) {
	when := time.Unix(1500000000, 5)
	acl := "\x02\x00\x00\x00\x01\x00\x07\x00\xff\xff\xff\xff\x02\x00\x04\x00\x2a\x00\x00\x00\x04\x00\x05\x00\xff\xff\xff\xff\x10\x00\x05\x00\xff\xff\xff\xff\x20\x00\x05\x00\xff\xff\xff\xff"
	dirs := stack(t,
		archive(t, tar.Header{Typeflag: tar.TypeDir, Name: "a/", Mode: 0o1770, Uid: 7, Gid: 8, ModTime: when,
			PAXRecords: map[string]string{"SCHILY.xattr.user.k": "v", "SCHILY.xattr.system.posix_acl_access": acl}},
			tar.Header{Typeflag: tar.TypeReg, Name: "a/low"}),
		archive(t, tar.Header{Typeflag: tar.TypeReg, Name: "a/b/x"}),
	)
	low, st := stat(t, dirs[0]+"/a"), stat(t, dirs[1]+"/a")
	if st.Uid != 7 || st.Gid != 8 || st.Mode != low.Mode || st.Mtim != unix.NsecToTimespec(when.UnixNano()) {
		t.Errorf("%+v", st)
	}
	var buf [64]byte
	if n, err := unix.Getxattr(dirs[1]+"/a", "user.k", buf[:]); err != nil || string(buf[:n]) != "v" {
		t.Errorf("%q, %v", buf[:max(n, 0)], err)
	}
	if n, err := unix.Getxattr(dirs[1]+"/a", "system.posix_acl_access", buf[:]); err != nil || n != len(acl) {
		t.Errorf("%d, %v", n, err)
	}
	if st := stat(t, dirs[1]+"/a/b"); st.Mode != unix.S_IFDIR|0o755 || st.Uid != 0 {
		t.Errorf("new parent %+v", st)
	}
}

func TestAttributes(t *testing.T) {
	when := time.Unix(1600000000, 123456789)
	dir := stack(t, archive(t,
		tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o700, Uid: 9},
		tar.Header{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o2711, Uid: 1, Gid: 2, ModTime: when},
		tar.Header{Typeflag: tar.TypeReg, Name: "d/suid", Mode: 0o6755, Uid: 3, Gid: 4, ModTime: when, Linkname: "content"},
		tar.Header{Typeflag: tar.TypeSymlink, Name: "d/l", Linkname: "suid", Mode: 0o777, Uid: 5, ModTime: when},
		tar.Header{Typeflag: tar.TypeFifo, Name: "d/p", Mode: 0o640, Gid: 6, ModTime: when},
		tar.Header{Typeflag: tar.TypeReg, Name: "ancient", ModTime: time.Unix(-1, 0)},
	))[0]
	ts := unix.NsecToTimespec(when.UnixNano())
	for path, want := range map[string][3]uint32{
		"": {unix.S_IFDIR | 0o755, 0, 0}, "d": {unix.S_IFDIR | 0o2711, 1, 2}, "d/suid": {unix.S_IFREG | 0o6755, 3, 4},
		"d/l": {unix.S_IFLNK | 0o777, 5, 0}, "d/p": {unix.S_IFIFO | 0o640, 0, 6},
	} {
		st := stat(t, filepath.Join(dir, path))
		if got := [3]uint32{st.Mode, st.Uid, st.Gid}; got != want || path != "" && st.Mtim != ts {
			t.Errorf("%q: %o %v", path, got, st.Mtim)
		}
	}
	if st := stat(t, dir+"/ancient"); st.Mtim.Sec != 0 {
		t.Errorf("before 1970: %v", st.Mtim)
	}
}

// What hides in the merged tree is hidden by whiteouts alone: no layer of ours has an opaque attribute.
func TestWhiteouts(t *testing.T) {
	reg := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name} }
	low := archive(t, reg("d/a"), reg("d/b"), reg("d/s/x"), reg("d/s/y"), reg("e"))
	for name, c := range map[string]struct {
		upper []tar.Header
		want  string // names of the upper layer, whiteouts with a -
	}{
		"whiteout":                  {[]tar.Header{reg("d/.wh.a")}, "d d/-a"},
		"of nothing":                {[]tar.Header{reg("d/.wh.none")}, "d"},
		"in nothing":                {[]tar.Header{reg("n/.wh.none")}, "n"},
		"twice":                     {[]tar.Header{reg("d/.wh.a"), reg("d/.wh.a")}, "d d/-a"},
		"then again":                {[]tar.Header{reg("d/.wh.a"), reg("d/a")}, "d d/a"},
		"own":                       {[]tar.Header{reg("d/n"), reg("d/.wh.n")}, "d"},
		"directory":                 {[]tar.Header{reg(".wh.d")}, "-d"},
		"directory, then again":     {[]tar.Header{reg(".wh.d"), reg("d/s/x")}, "d d/-a d/-b d/s d/s/-y d/s/x"},
		"directory below a new one": {[]tar.Header{reg("d/.wh.s"), reg("d/s/n")}, "d d/s d/s/-x d/s/-y d/s/n"},
		"opaque":                    {[]tar.Header{reg("d/.wh..wh..opq")}, "d d/-a d/-b d/-s"},
		"opaque, with content":      {[]tar.Header{reg("d/a"), reg("d/s/x"), reg("d/.wh..wh..opq"), reg("d/n")}, "d d/-b d/a d/n d/s d/s/-y d/s/x"},
		"opaque below opaque":       {[]tar.Header{reg("d/s/.wh..wh..opq"), reg("d/s/n"), reg("d/.wh..wh..opq")}, "d d/-a d/-b d/s d/s/-x d/s/-y d/s/n"},
		"opaque, then removed":      {[]tar.Header{reg("d/.wh..wh..opq"), reg(".wh.d")}, "-d"},
		"opaque root":               {[]tar.Header{reg(".wh..wh..opq"), reg("n")}, "-d -e n"},
		"file over a directory":     {[]tar.Header{reg("d")}, "d"},
		"directory over that file":  {[]tar.Header{reg("d"), reg("d/.wh..wh.aufs"), {Typeflag: tar.TypeDir, Name: "d/"}}, ""},
		"directory over a file":     {[]tar.Header{{Typeflag: tar.TypeDir, Name: "e/"}, reg("e/n")}, "e e/n"},
		"file, then directory":      {[]tar.Header{reg("d"), {Typeflag: tar.TypeDir, Name: "d/"}}, "d d/-a d/-b d/-s"},
		"directories are merged":    {[]tar.Header{{Typeflag: tar.TypeDir, Name: "d/"}, {Typeflag: tar.TypeDir, Name: "d/s/"}}, "d d/s"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.want == "" { // an entry below a file
				lower := stack(t, low)
				if _, err := apply(t, t.TempDir(), lower, layer.Limits{}, bytes.NewReader(archive(t, c.upper...))); !errors.Is(err, errdefs.ErrInvalidArgument) {
					t.Fatal(err)
				}
				return
			}
			dir := stack(t, low, archive(t, c.upper...))[1]
			if got := names(t, dir); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func names(t testing.TB, root string) string {
	t.Helper()
	var list []string
	filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		if n, err := unix.Llistxattr(path, nil); err != nil || n != 0 {
			t.Errorf("%s has extended attributes", path)
		}
		rel := path[len(root)+1:]
		if st := stat(t, path); rootfs.IsWhiteout(st.Mode, uint64(st.Rdev)) {
			rel = filepath.Join(filepath.Dir(rel), "-"+filepath.Base(rel))
		}
		list = append(list, rel)
		return nil
	})
	slices.Sort(list)
	return strings.Join(list, " ")
}

// A hard link to a file of a lower layer copies it, with all that it is and its holes.
func TestCopyUp(t *testing.T) {
	content := "start" + strings.Repeat("\x00", 1<<20) + "end"
	when := time.Unix(1400000000, 7)
	dirs := stack(t,
		archive(t, tar.Header{Typeflag: tar.TypeReg, Name: "d/f", Linkname: content, Mode: 0o4710, Uid: 11, Gid: 12, ModTime: when,
			PAXRecords: map[string]string{"SCHILY.xattr.user.k": "v"}},
			tar.Header{Typeflag: tar.TypeSymlink, Name: "d/l", Linkname: "f"}, tar.Header{Typeflag: tar.TypeFifo, Name: "d/p"}),
		archive(t, tar.Header{Typeflag: tar.TypeLink, Name: "g", Linkname: "d/f", Mode: 0o4710, Uid: 11, Gid: 12, ModTime: when},
			tar.Header{Typeflag: tar.TypeLink, Name: "m", Linkname: "d/l"}, tar.Header{Typeflag: tar.TypeLink, Name: "q", Linkname: "./d/p"}),
	)
	st, other := stat(t, dirs[1]+"/d/f"), stat(t, dirs[1]+"/g")
	if st.Ino != other.Ino || st.Nlink != 2 || st.Mode&0o7777 != 0o4710 || st.Uid != 11 || st.Gid != 12 || st.Mtim.Nsec != 7 {
		t.Errorf("%+v", st)
	}
	if data, err := os.ReadFile(dirs[1] + "/g"); err != nil || string(data) != content {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	if st.Blocks*512 > 600<<10 {
		t.Errorf("the hole is filled: %d blocks", st.Blocks)
	}
	var buf [8]byte
	if n, err := unix.Getxattr(dirs[1]+"/g", "user.k", buf[:]); err != nil || string(buf[:n]) != "v" {
		t.Errorf("%v", err)
	}
	if l, err := os.Readlink(dirs[1] + "/m"); err != nil || l != "f" {
		t.Errorf("%q, %v", l, err)
	}
	if st := stat(t, dirs[1]+"/q"); st.Mode&unix.S_IFMT != unix.S_IFIFO || st.Nlink != 2 {
		t.Errorf("%+v", st)
	}
}

// Thousands of directories, more than are held open, and changes under the feet of what is held.
func TestManyDirectories(t *testing.T) {
	var headers []tar.Header
	for i := range 3 * maxDirs {
		headers = append(headers, tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("a/%d/b/%d", i%700, i)})
	}
	headers = append(headers, tar.Header{Typeflag: tar.TypeReg, Name: ".wh.a"},
		tar.Header{Typeflag: tar.TypeReg, Name: "a/5/b/x"}, tar.Header{Typeflag: tar.TypeReg, Name: "a"}, tar.Header{Typeflag: tar.TypeReg, Name: ".wh.a"},
		tar.Header{Typeflag: tar.TypeReg, Name: "a/5/b/y"})
	dir := stack(t, archive(t, headers...))[0]
	if got := names(t, dir); got != "a a/5 a/5/b a/5/b/y" {
		t.Error(got)
	}
	if open := descriptors(t); open > 40 {
		t.Errorf("%d descriptors are left open", open)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// Errors of the blob are the node's, and arrive whatever the reader is at.
func TestBlobErrors(t *testing.T) {
	good := archive(t, tar.Header{Typeflag: tar.TypeReg, Name: "a", Linkname: strings.Repeat("x", 1<<20)})
	for at := 0; at < len(good); at += len(good) / 7 {
		blob := io.MultiReader(bytes.NewReader(good[:at]), iotest.ErrReader(&fs.PathError{Op: "read", Path: "blob", Err: unix.EIO}))
		if _, err := apply(t, t.TempDir(), nil, layer.Limits{}, blob); !errors.Is(err, errdefs.ErrUnavailable) {
			t.Errorf("at %d: %v", at, err)
		}
		if _, err := apply(t, t.TempDir(), nil, layer.Limits{}, iotest.OneByteReader(bytes.NewReader(good[:at]))); at > 0 && !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("cut at %d: %v", at, err)
		}
	}
}

func TestKernelKinds(t *testing.T) {
	for errno, kind := range map[unix.Errno]error{
		unix.ENOSPC: errdefs.ErrResourceExhausted, unix.EDQUOT: errdefs.ErrResourceExhausted, unix.EFBIG: errdefs.ErrResourceExhausted,
		unix.EMLINK: errdefs.ErrResourceExhausted, unix.ENAMETOOLONG: errdefs.ErrInvalidArgument, unix.ENOTDIR: errdefs.ErrInvalidArgument,
		unix.EIO: errdefs.ErrUnavailable, unix.EROFS: errdefs.ErrUnavailable, unix.EPERM: errdefs.ErrUnavailable,
	} {
		if err := kernel("write", "x", errno); spec.KindOf(err) != kind {
			t.Errorf("%v: %v", errno, spec.KindOf(err))
		}
	}
	if kernel("write", "x", nil) != nil {
		t.Error("an error of nothing")
	}
}
