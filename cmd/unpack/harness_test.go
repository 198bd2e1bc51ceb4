package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/image/layer"
)

// workerPath is the worker, built as the product is.
var workerPath string

func TestMain(m *testing.M) {
	if os.Getenv("PEAK")+os.Getenv("FULL") != "" { // a helper process of a test, which is told where the worker is
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "runtimed-test-unpack-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	workerPath = filepath.Join(dir, "runtimed-unpack")
	build := exec.Command("go", "build", "-tags=seccomp,netgo,osusergo", "-trimpath",
		"-ldflags", `-s -w -linkmode external -extldflags "-static"`, "-o", workerPath, ".")
	code := 1
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
	} else {
		code = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

// entry is one entry of an archive; data is a regular file's content.
type entry struct {
	tar.Header
	data string
}

func file(name, data string) entry {
	return entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, data}
}

func dir(name string) entry {
	return entry{tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}, ""}
}

func symlink(name, target string) entry {
	return entry{tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}, ""}
}

func hardlink(name, target string) entry {
	return entry{tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644}, ""}
}

func node(kind byte, name string, major, minor int64) entry {
	return entry{tar.Header{Typeflag: kind, Name: name, Mode: 0o666, Devmajor: major, Devminor: minor}, ""}
}

func whiteout(name string) entry {
	d, b := filepath.Split(name)
	return file(d+".wh."+b, "")
}

// raw writes a ustar header by hand, for names that archive/tar does not write.
func raw(name string, kind byte, size string, link string) []byte {
	h := make([]byte, 512)
	copy(h[0:100], name)
	copy(h[100:108], "0000644\x00")
	copy(h[108:116], "0000000\x00")
	copy(h[116:124], "0000000\x00")
	copy(h[124:136], size)
	copy(h[136:148], "00000000000\x00")
	h[156] = kind
	copy(h[157:257], link)
	copy(h[257:265], "ustar\x0000")
	sum := 8 * int(' ')
	for i, b := range h {
		if i < 148 || i >= 156 {
			sum += int(b)
		}
	}
	copy(h[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return h
}

func archive(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		e.Size = int64(len(e.data))
		if e.Typeflag != tar.TypeDir && strings.HasSuffix(e.Name, "/") { // archive/tar does not write that
			w.Flush()
			b.Write(raw(e.Name, e.Typeflag, fmt.Sprintf("%011o", e.Size), e.Linkname))
			b.Write(append([]byte(e.data), make([]byte, (512-len(e.data)%512)%512)...))
			continue
		}
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatalf("%q: %v", e.Name, err)
		}
		w.Write([]byte(e.data))
	}
	w.Close()
	return b.Bytes()
}

func zip(data []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write(data)
	z.Close()
	return b.Bytes()
}

func digestOf(data []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(data)) }

// site is a place to unpack in, beside a tree that must not change.
type site struct {
	t      testing.TB
	base   string
	canary string
	before string
	layers []string
	limits layer.Limits
}

func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{t: t, base: t.TempDir()}
	s.canary = filepath.Join(s.base, "canary")
	for _, d := range []string{"canary/dir", "layers"} {
		if err := os.MkdirAll(filepath.Join(s.base, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"canary/file", "canary/dir/file", "canary/setuid", "x", "layers/x"} {
		if err := os.WriteFile(filepath.Join(s.base, f), []byte("canary"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s.before = s.picture()
	return s
}

// picture is everything outside the layers: paths, inodes, modes, owners, times, contents.
func (s *site) picture() string {
	var b strings.Builder
	for _, root := range []string{s.base, "/etc/passwd", "/etc/hostname", "/proc/sys/kernel/core_pattern"} {
		filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				fmt.Fprintln(&b, path, err)
				return nil
			}
			if d.IsDir() && filepath.Dir(path) == filepath.Join(s.base, "layers") {
				return fs.SkipDir
			}
			var st unix.Stat_t
			unix.Lstat(path, &st)
			if path == s.base || path == filepath.Join(s.base, "layers") {
				fmt.Fprintln(&b, path, st.Mode, st.Uid)
				return nil
			}
			content := ""
			if d.Type().IsRegular() {
				data, _ := os.ReadFile(path)
				content = digestOf(data)
			}
			fmt.Fprintln(&b, path, st.Ino, st.Mode, st.Uid, st.Gid, st.Nlink, st.Size, st.Mtim, st.Ctim, content)
			return nil
		})
	}
	return b.String()
}

// unpack unpacks a blob as the next layer; where the archive is good its directory becomes a parent of the next.
func (s *site) unpack(compression string, blob []byte, diffID string) (string, layer.Result, error) {
	s.t.Helper()
	path := filepath.Join(s.base, "layers", "blob")
	if err := os.WriteFile(path, blob, 0o600); err != nil {
		s.t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	os.Remove(path)
	return s.unpackFile(compression, f, diffID)
}

func (s *site) unpackFile(compression string, f *os.File, diffID string) (string, layer.Result, error) {
	s.t.Helper()
	target, err := os.MkdirTemp(filepath.Join(s.base, "layers"), "")
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := layer.Worker{Path: workerPath}.Unpack(context.Background(), layer.Request{
		Blob: f, Compression: compression, DiffID: diffID, Target: target, Parents: s.layers, Limits: s.limits,
	})
	if err == nil {
		s.layers = append(s.layers, target)
	}
	s.check()
	return target, r, err
}

// check compares the picture, and shows the lines that are new.
func (s *site) check() {
	s.t.Helper()
	now := s.picture()
	if now == s.before {
		return
	}
	for line := range strings.Lines(now) {
		if !strings.Contains(s.before, line) {
			s.t.Errorf("something outside changed: %s", line)
		}
	}
	s.t.Error("something outside changed, or is gone")
}

// tar unpacks an archive.
func (s *site) tar(data []byte) (string, error) {
	s.t.Helper()
	target, _, err := s.unpack(layer.Gzip, zip(data), digestOf(data))
	return target, err
}

// tree lists what a directory has: path, type and, for links and small files, the content.
func tree(t testing.TB, root string) string {
	t.Helper()
	var lines []string
	filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			t.Fatal(err)
		}
		if path == root {
			return nil
		}
		name := fmt.Sprintf("%+q", path[len(root)+1:])
		name = name[1 : len(name)-1]
		var st unix.Stat_t
		unix.Lstat(path, &st)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			name += "/"
		case unix.S_IFLNK:
			l, _ := os.Readlink(path)
			name += "->" + l
		case unix.S_IFCHR, unix.S_IFBLK:
			name += fmt.Sprintf("(%d:%d)", unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev)))
		case unix.S_IFIFO:
			name += "|"
		default:
			data, _ := os.ReadFile(path)
			if len(data) <= 32 {
				name += "=" + string(data)
			}
		}
		lines = append(lines, name)
		return nil
	})
	return strings.Join(lines, " ")
}
