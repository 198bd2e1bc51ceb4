package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/image/layer"
)

func blocks(fi os.FileInfo) int64 { return fi.Sys().(*syscall.Stat_t).Blocks }

// I11: counts and depths end at the limits.
func TestLimits(t *testing.T) {
	many := func(n int, f func(i int) entry) []byte {
		entries := make([]entry, n)
		for i := range entries {
			entries[i] = f(i)
		}
		return archive(t, entries...)
	}
	for name, c := range map[string]struct {
		data []byte
		bad  string
	}{
		"files":       {many(1001, func(i int) entry { return file(fmt.Sprint(i), "") }), "more than 1000 entries"},
		"directories": {many(1001, func(i int) entry { return dir(fmt.Sprint(i)) }), "more than 1000 entries"},
		"one name":    {many(1001, func(i int) entry { return file("x", "") }), "more than 1000 entries"},
		"whiteouts":   {many(1001, func(i int) entry { return whiteout("x") }), "more than 1000 entries"},
		"implied":     {many(300, func(i int) entry { return file(fmt.Sprintf("%d/a/b/c/d", i), "") }), "more than 1000 entries"},
		"deep":        {many(1, func(i int) entry { return file(strings.Repeat("d/", 20)+"x", "") }), "deeper than 20"},
		"deep by links": {archive(t, symlink("l", "a/a/a/a/a/a/a/a/a/a/a/a/a/a/a"), file("l/b/b/b/b/b/b/b/b/x", "")),
			"deeper than 20"},
		"bytes": {archive(t, file("a", strings.Repeat("x", 60000)), file("b", strings.Repeat("x", 60000))), "more than 100000 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.limits = layer.Limits{Bytes: 100_000, Entries: 1000, Depth: 20}
			if name != "bytes" {
				s.limits.Bytes = 0
			}
			_, err := s.tar(c.data)
			if err == nil || !strings.Contains(err.Error(), c.bad) {
				t.Fatal(err)
			}
		})
	}
}

// I10: four times the entries take about four times as long, whatever their shape. Counted in CPU time of the workers.
func TestLinear(t *testing.T) {
	deep := strings.Repeat("d/", 100)
	shapes := map[string]func(i int) []entry{
		"whiteout and again": func(i int) []entry { return []entry{whiteout("d"), file("d/x", "")} },
		"opaque, again":      func(i int) []entry { return []entry{file("low/.wh..wh..opq", "")} },
		"opaque and files":   func(i int) []entry { return []entry{file(fmt.Sprintf("low/%d", i), ""), file("low/.wh..wh..opq", "")} },
		"remove and opaque":  func(i int) []entry { return []entry{whiteout("low"), dir("low")} },
		"deep":               func(i int) []entry { return []entry{file(fmt.Sprintf("%s%d", deep, i), "")} },
		"deep, one each":     func(i int) []entry { return []entry{file(fmt.Sprintf("%d/%sx", i, strings.Repeat("d/", 4)), "")} },
		"hard links":         func(i int) []entry { return []entry{hardlink(fmt.Sprint("l", i), fmt.Sprint("low/", i%500))} },
		"replaced by a file": func(i int) []entry { return []entry{dir("r/s"), file("r", ""), whiteout("r")} },
		"through links":      func(i int) []entry { return []entry{file(fmt.Sprintf("l0/%d", i), "")} },
		"other links": func(i int) []entry {
			return []entry{symlink(fmt.Sprint("s", i), "low"), file(fmt.Sprintf("s%d/%d", i, i), "")}
		},
		"directories":          func(i int) []entry { return []entry{dir(fmt.Sprintf("x/%d", i))} },
		"link made and gone":   func(i int) []entry { return []entry{symlink("k", "low"), file("k/x", ""), whiteout("k")} },
		"whiteouts of nothing": func(i int) []entry { return []entry{whiteout(fmt.Sprintf("low/none%d", i))} },
	}
	lower := []entry{symlink("l0", "l1"), symlink("l1", "l2"), symlink("l2", "l3"), symlink("l3", "low")}
	for i := range 2000 {
		lower = append(lower, file(fmt.Sprintf("low/%d", i), ""))
	}
	for name, shape := range shapes {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			if _, err := s.tar(archive(t, lower...)); err != nil {
				t.Fatal(err)
			}
			cost := func(n int) time.Duration {
				var entries []entry
				for i := range n {
					entries = append(entries, shape(i)...)
				}
				data := archive(t, entries...)
				before := childTime()
				if _, err := s.tar(data); err != nil {
					t.Fatal(err)
				}
				s.layers = s.layers[:1]
				return childTime() - before
			}
			// The bound is loose, on a machine that others use too, but not for a square, which takes 16 times as long.
			for try := 1; ; try++ {
				small, large := cost(500), cost(2000)
				if large < 8*small || large < 200*time.Millisecond {
					return
				}
				if try == 4 {
					t.Fatalf("500: %v, 2000: %v", small, large)
				}
			}
		})
	}
}

// childTime is the CPU time of the processes that were waited for.
func childTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_CHILDREN, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Killed at a random moment: an error, and nothing outside.
func TestKilledMidway(t *testing.T) {
	var entries []entry
	for i := range 3000 {
		entries = append(entries, file(fmt.Sprintf("d%d/f%d", i%50, i), strings.Repeat("x", i)))
	}
	data := archive(t, entries...)
	blob := zip(data)
	s := newSite(t)
	whole := time.Duration(0)
	for i := range 25 {
		path := filepath.Join(t.TempDir(), "blob")
		if err := os.WriteFile(path, blob, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		os.Remove(path)
		target, err := os.MkdirTemp(s.base+"/layers", "")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		start := time.Now()
		if i > 0 {
			time.AfterFunc(time.Duration(rand.Int64N(int64(whole))), cancel)
		}
		r, err := layer.Worker{Path: workerPath}.Unpack(ctx, layer.Request{Blob: f, Compression: layer.Gzip, DiffID: digestOf(data), Target: target})
		if i == 0 {
			whole = time.Since(start)
		}
		f.Close()
		cancel()
		switch {
		case err == nil && r.Entries != 3050:
			t.Errorf("%v", r)
		case err != nil && !errors.Is(err, context.Canceled):
			t.Error(err)
		}
		s.check()
		os.RemoveAll(target)
	}
}

// The blob comes from a pipe that stands still: the context still ends the worker.
func TestHangingBlob(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	w.Write(archive(t, file("a", ""))[:700])
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	_, err = layer.Worker{Path: workerPath}.Unpack(ctx, layer.Request{Blob: r, Compression: layer.None, DiffID: digestOf(nil), Target: t.TempDir()})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
}

// Memory of a worker, with the worst that it accepts: a window of 32 MiB, many directories, large headers.
func TestMemory(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	rnd := rand.NewChaCha8([32]byte{})
	noise := make([]byte, 34<<20)
	rnd.Read(noise)
	w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "noise", Size: int64(len(noise)), Mode: 0o600})
	w.Write(noise)
	for i := range 20000 {
		w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: fmt.Sprintf("a-directory-with-a-rather-long-name-%d/%d", i%300, i), Mode: 0o755})
	}
	for i := range 20 {
		w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprint(i), PAXRecords: map[string]string{"comment": strings.Repeat("x", 900<<10)}})
	}
	w.Close()
	for compression, blob := range map[string][]byte{
		layer.Gzip: zip(b.Bytes()), layer.Zstd: zstandard(t, b.Bytes(), zstdWindow(32<<20)),
	} {
		rss := peak(t, compression, blob, digestOf(b.Bytes()))
		t.Logf("%s: peak resident set %d MiB", compression, rss>>20)
		if rss > 64<<20 {
			t.Errorf("%s: peak resident set %d MiB", compression, rss>>20)
		}
	}
}

// peak runs a worker in a process of its own, whose children's largest resident set is this worker's.
func peak(t *testing.T, compression string, blob []byte, id string) int64 {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/blob", blob, 0o600); err != nil {
		t.Fatal(err)
	}
	os.Mkdir(dir+"/target", 0o755)
	cmd := exec.Command("/proc/self/exe", "-test.run", "TestPeakHelper")
	cmd.Env = append(os.Environ(), "PEAK="+strings.Join([]string{workerPath, compression, dir, id}, " "))
	out, err := cmd.Output()
	var rss int64
	if _, serr := fmt.Sscanf(string(out), "rss %d", &rss); err != nil || serr != nil {
		t.Fatalf("%v, %v: %s", err, serr, out)
	}
	return rss
}

func TestPeakHelper(t *testing.T) {
	f := strings.Fields(os.Getenv("PEAK"))
	if len(f) != 4 {
		return
	}
	blob, err := os.Open(f[2] + "/blob")
	if err != nil {
		t.Fatal(err)
	}
	_, err = layer.Worker{Path: f[0]}.Unpack(context.Background(), layer.Request{Blob: blob, Compression: f[1], DiffID: f[3], Target: f[2] + "/target"})
	if err != nil {
		t.Fatal(err)
	}
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_CHILDREN, &u)
	fmt.Printf("rss %d\n", u.Maxrss<<10)
}

// A full disk and a layer on another one.
func TestFullDisk(t *testing.T) {
	s := newSite(t)
	full := filepath.Join(s.base, "layers", "full")
	script := fmt.Sprintf(`mount -t tmpfs -o size=1m tmpfs %[1]s && exec "$0" -test.run TestFullDiskHelper`, full)
	os.Mkdir(full, 0o755)
	cmd := exec.Command("unshare", "-m", "sh", "-c", script, "/proc/self/exe")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Args[len(cmd.Args)-1] = self
	cmd.Env = append(os.Environ(), "FULL="+full+" "+workerPath)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestFullDiskHelper(t *testing.T) {
	f := strings.Fields(os.Getenv("FULL"))
	if len(f) != 2 {
		return
	}
	noise := make([]byte, 3<<20)
	rand.NewChaCha8([32]byte{}).Read(noise)
	data := archive(t, file("a", string(noise)))
	blob, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	blob.Write(data)
	blob.Seek(0, io.SeekStart)
	_, err = layer.Worker{Path: f[1]}.Unpack(context.Background(), layer.Request{Blob: blob, Compression: layer.None, DiffID: digestOf(data), Target: f[0]})
	if !errors.Is(err, errdefs.ErrResourceExhausted) || !strings.Contains(err.Error(), "no space left") {
		t.Fatal(err)
	}
}
