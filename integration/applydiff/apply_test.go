package applydiff

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"

	containerd "github.com/containerd/containerd/v2/pkg/archive"
	"github.com/containerd/log"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/image/layer"
	"github.com/runtimed/runtimed/pkg/image/rootfs"
)

var (
	sets  = flag.Int("sets", 240, "layer sets to compare")
	first = flag.Uint64("first", 1, "seed of the first set")
)

// sparseEntries are archive entries by name, from GNU tar's PAX format 1.0, the one that archive/tar reads and cannot write.
var sparseEntries = map[string][]byte{}

func makeSparse(t *testing.T) {
	for i, holes := range [][]int64{{0, 1 << 20}, {1 << 20, 3<<20 + 17}, {4096, 8192, 1 << 22}} {
		name := fmt.Sprintf("sparse%d", i)
		dir := t.TempDir()
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range holes {
			f.WriteAt([]byte("data "+name), at)
		}
		f.Truncate(holes[len(holes)-1] + 1<<20)
		f.Close()
		out, err := exec.Command("tar", "-C", dir, "--format=posix", "--sparse", "-cf", "-", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		sparseEntries[name] = out[:entriesEnd(t, out)]
	}
}

// entriesEnd is where the zeroes that end an archive begin.
func entriesEnd(t *testing.T, archive []byte) int64 {
	at := int64(0)
	for archive[at] != 0 {
		size, err := strconv.ParseInt(strings.Trim(string(archive[at+124:at+136]), " \x00"), 8, 64)
		if err != nil {
			t.Fatal(err)
		}
		at += 512 + (size+511)/512*512
	}
	return at
}

func TestEqualsContainerd(t *testing.T) {
	log.SetLevel("error") // archive.Apply warns of every attribute that it drops
	makeSparse(t)
	compared, layers, files, refused := 0, 0, 0, 0
	features := map[string]int{}
	for seed := *first; compared < *sets; seed++ {
		if seed > *first+uint64(*sets)*8 {
			t.Fatalf("too many sets are refused by archive.Apply: %d compared, %d refused", compared, refused)
		}
		s := &set{t: t, seed: seed, dir: t.TempDir()}
		ok := s.run()
		os.RemoveAll(s.dir)
		if t.Failed() {
			return
		}
		if !ok {
			refused++
			continue
		}
		compared, layers, files = compared+1, layers+len(s.layers), files+s.files
		for _, a := range s.layers {
			for f := range a.features {
				features[f]++
			}
		}
	}
	var list []string
	for f, n := range features {
		list = append(list, fmt.Sprintf("%s %d", f, n))
	}
	sort.Strings(list)
	t.Logf("compared %d sets of %d layers with %d files; %d more sets are refused by archive.Apply and by us; "+
		"layers with: %s", compared, layers, files, refused, strings.Join(list, ", "))
	for _, f := range []string{"whiteout", "own whiteout", "opaque", "late opaque", "hard link", "lower link", "symlink", "through",
		"xattr", "device", "sparse", "implied", "gzip", "zstd", "none"} {
		if features[f] < 20 {
			t.Errorf("only %d layers have a feature of kind %q", features[f], f)
		}
	}
}

// set is one generated stack of layers.
type set struct {
	t      *testing.T
	seed   uint64
	dir    string
	layers []archive
	ours   []string // directories, lowest first
	files  int
}

// run compares; false when archive.Apply refuses a layer.
func (s *set) run() bool {
	r := rand.New(rand.NewPCG(s.seed, 1))
	theirs := filepath.Join(s.dir, "theirs")
	os.Mkdir(theirs, 0o755)
	for i := range 2 + r.IntN(4) {
		a := generate(r, theirs)
		s.layers = append(s.layers, a)
		_, refused := containerd.Apply(context.Background(), theirs, bytes.NewReader(a.raw))
		target := filepath.Join(s.dir, fmt.Sprint(i))
		err := s.unpack(a, target)
		if refused != nil {
			if err == nil && !atTheEnd(refused) {
				s.fail("layer %d: we take it, archive.Apply does not: %v", i, refused)
			}
			return false
		}
		if err != nil {
			s.fail("layer %d: archive.Apply takes it, we do not: %v", i, err)
			return true
		}
		s.ours = append(s.ours, target)
		s.compare(theirs)
		if s.t.Failed() {
			return true
		}
	}
	return true
}

// atTheEnd tells an error of archive.Apply's last pass, which sets the times of directories by the names of their entries:
// what has such a name by now may be gone, or no directory. That is no reason for us.
func atTheEnd(err error) bool {
	return strings.Contains(err.Error(), "failed call to UtimesNanoAt") || strings.HasPrefix(err.Error(), "lstat ")
}

func (s *set) unpack(a archive, target string) error {
	os.Mkdir(target, 0o700)
	blob := filepath.Join(s.dir, "blob")
	os.WriteFile(blob, a.blob, 0o600)
	f, err := os.Open(blob)
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	_, err = layer.Worker{Path: worker}.Unpack(context.Background(), layer.Request{
		Blob: f, Compression: a.compression, DiffID: a.diffID(), Target: target, Parents: s.ours,
	})
	return err
}

func (s *set) compare(theirs string) {
	merged, empty := filepath.Join(s.dir, "merged"), filepath.Join(s.dir, "empty")
	os.Mkdir(merged, 0o755)
	os.Mkdir(empty, 0o755)
	lowers := empty
	for _, dir := range s.ours {
		lowers = dir + ":" + lowers
	}
	if err := unix.Mount("overlay", merged, "overlay", unix.MS_RDONLY, "lowerdir="+lowers); err != nil {
		s.t.Fatal(err)
	}
	defer unix.Unmount(merged, unix.MNT_DETACH)
	ours, other := snapshot(s.t, merged), snapshot(s.t, theirs)
	if d := diff(ours, other); d != "" {
		s.fail("after layer %d:\n%s", len(s.ours)-1, d)
	}
	s.files = len(ours)
	s.reader(theirs, other)
}

// reader compares what rootfs reads without a mount.
func (s *set) reader(theirs string, files map[string]string) {
	for path, line := range files {
		if !strings.Contains(line, " size=") { // no regular file
			continue
		}
		want, err := os.ReadFile(filepath.Join(theirs, path))
		if err != nil {
			s.t.Fatal(err)
		}
		f, err := rootfs.Open(s.ours, path)
		if err != nil {
			s.fail("rootfs: %q: %v", path, err)
			continue
		}
		got, err := io.ReadAll(f)
		f.Close()
		if err != nil || !bytes.Equal(got, want) {
			s.fail("rootfs: %q has other content (%v)", path, err)
		}
	}
}

func (s *set) fail(format string, args ...any) {
	s.t.Helper()
	s.t.Errorf("seed %d: "+format, append([]any{s.seed}, args...)...)
	for i, a := range s.layers {
		s.t.Logf("layer %d (%s):\n  %s", i, a.compression, strings.Join(a.entries, "\n  "))
	}
}
