package image

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	rt "github.com/runtimed/runtimed/integration/registrytest"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func TestTagMoves(t *testing.T) {
	r := rt.New(t, rt.Options{})
	old := r.MustPush(t, "app:latest", app("1"))
	n := newNode(t)
	n.mustPull(r.Ref("app"))
	now := r.MustPush(t, "app:latest", app("2"))
	unpacked := n.unpacker.calls.Load()
	if id := n.mustPull(r.Ref("app")); id != now.ID {
		t.Fatalf("a local tag was not asked for again: %s", id)
	}
	if n.unpacker.calls.Load() != unpacked+1 {
		t.Errorf("the shared layer was unpacked again")
	}
	check := func(when string) {
		t.Helper()
		images, err := n.List(t.Context(), "")
		if err != nil || len(images) != 2 {
			t.Fatalf("%s: %d images, %v", when, len(images), err)
		}
		gone, err := n.Get(t.Context(), old.ID)
		if err != nil || len(gone.RepoTags) != 0 || !slices.Equal(gone.RepoDigests, []string{r.Ref("app@" + old.Digest)}) {
			t.Errorf("%s: the old image has %v %v, %v", when, gone.RepoTags, gone.RepoDigests, err)
		}
		has, err := n.Get(t.Context(), r.Ref("app"))
		if err != nil || has.ID != now.ID {
			t.Errorf("%s: the tag names %s, %v", when, has.ID, err)
		}
	}
	check("moved")
	n.restart(nil)
	check("after a restart")
	// A power cut between the two records: both claim the tag, and the later pull is right.
	n.restart(func() {
		f := n.record(digestOf(digestHex(old.ID)))
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		claim := strings.Replace(string(text), `"Tags":{}`, fmt.Sprintf(`"Tags":{%q:1}`, r.Ref("app:latest")), 1)
		if claim == string(text) {
			t.Fatalf("unexpected record %s", text)
		}
		if err := os.WriteFile(f, []byte(claim), 0o600); err != nil {
			t.Fatal(err)
		}
	})
	check("after both claimed it")
	n.restart(nil)
	check("after it was settled")
	// And back again.
	r.MustPush(t, "app:latest", app("1"))
	if id := n.mustPull(r.Ref("app")); id != old.ID {
		t.Errorf("moved back: %s", id)
	}
	n.wantClean()
}

func TestRemoveSparesWhatIsShared(t *testing.T) {
	r := rt.New(t, rt.Options{})
	a := r.MustPush(t, "app:1", app("1"))
	r.MustPush(t, "other:x", app("1"))
	r.MustPush(t, "app:2", app("2"))
	n := newNode(t)
	for _, ref := range []string{"app:1", "other:x", "app:2"} {
		n.mustPull(r.Ref(ref))
	}
	if got, _ := n.Get(t.Context(), a.ID); len(got.RepoTags) != 2 {
		t.Fatalf("tags %v", got.RepoTags)
	}
	full, _ := n.FsInfo(t.Context())
	if err := n.Remove(t.Context(), r.Ref("other:x")); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Get(t.Context(), r.Ref("app:1")); !errdefs.IsNotFound(err) {
		t.Errorf("one tag removes all: %v", err)
	}
	if got, err := n.Get(t.Context(), r.Ref("app:2")); err != nil || len(got.Layers) != 2 {
		t.Errorf("the other image: %v", err)
	}
	n.wantClean()
	less, _ := n.FsInfo(t.Context())
	if less.UsedBytes >= full.UsedBytes || less.Inodes >= full.Inodes || less.UsedBytes == 0 {
		t.Errorf("use went from %+v to %+v", full, less)
	}
	for range 2 {
		if err := n.Remove(t.Context(), r.Ref("app:2")); err != nil {
			t.Fatal(err)
		}
	}
	n.wantClean()
	if got := n.entries("layers"); len(got) != 0 {
		t.Errorf("layers %v", got)
	}
	n.restart(nil)
	if got, _ := n.List(t.Context(), ""); len(got) != 0 {
		t.Errorf("removed images came back: %v", got)
	}
}

func TestRemoveSparesContainers(t *testing.T) {
	r := rt.New(t, rt.Options{})
	r.MustPush(t, "app:1", app("1"))
	n := newNode(t)
	n.mustPull(r.Ref("app:1"))
	use, release, err := n.Use(t.Context(), r.Ref("app:1"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(use.Ref, r.Ref("app@sha256:")) || use.UserImage != r.Ref("app:1") || len(use.Layers) != 2 || use.Config.User != "1000:1000" {
		t.Errorf("use %+v", use)
	}
	wantLayers := func(when string, want int) {
		t.Helper()
		if got := len(n.entries("layers")); got != want {
			t.Errorf("%s: %d layers, want %d", when, got, want)
		}
	}
	if err := n.Remove(t.Context(), r.Ref("app:1")); err != nil {
		t.Fatal(err)
	}
	wantLayers("borrowed", 2)
	n.run(use) // the container's record is written
	release()
	release()
	n.wantClean()
	wantLayers("in a container", 2)
	if got, _ := n.List(t.Context(), ""); len(got) != 0 {
		t.Errorf("the image is still listed: %v", got)
	}
	n.restart(nil)
	n.Collect()
	wantLayers("after a restart", 2)
	calls := n.unpacker.calls.Load()
	n.mustPull(r.Ref("app:1"))
	if n.unpacker.calls.Load() != calls {
		t.Error("layers of a running container were unpacked again")
	}
	if err := n.Remove(t.Context(), r.Ref("app:1")); err != nil {
		t.Fatal(err)
	}
	n.run()
	n.wantClean()
	wantLayers("unused", 0)
}

// A container's record can appear between the moment when Collect asks for them and the moment when it looks.
func TestReleaseWhileCollecting(t *testing.T) {
	r := rt.New(t, rt.Options{})
	r.MustPush(t, "app:1", app("1"))
	n := newNode(t)
	n.mustPull(r.Ref("app:1"))
	use, release, err := n.Use(t.Context(), r.Ref("app:1"))
	if err != nil {
		t.Fatal(err)
	}
	n.opts.InUse = func() []spec.ImageUse {
		before := n.containers()
		if len(before) == 0 {
			n.run(use)
			release()
		}
		return before
	}
	if err := n.Remove(t.Context(), r.Ref("app:1")); err != nil {
		t.Fatal(err)
	}
	if got := len(n.entries("layers")); got != 2 {
		t.Errorf("%d layers are left to a running container", got)
	}
}

func TestUseOfNothing(t *testing.T) {
	n := newNode(t)
	if _, _, err := n.Use(t.Context(), "busybox"); !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "pull it first") {
		t.Errorf("got %v", err)
	}
	if _, _, err := n.Use(t.Context(), "a b"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("got %v", err)
	}
	if err := n.Remove(t.Context(), "busybox"); err != nil {
		t.Errorf("remove of nothing: %v", err)
	}
	if err := n.Remove(t.Context(), "a b"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("remove of a bad name: %v", err)
	}
}

func TestFsInfoOfAnEmptyStore(t *testing.T) {
	n := newNode(t)
	info, err := n.FsInfo(t.Context())
	if err != nil || info.Inodes != 8 || info.Timestamp == 0 { // its own directories
		t.Errorf("got %+v, %v", info, err)
	}
	if st, err := os.Stat(info.Mountpoint); err != nil || !st.IsDir() {
		t.Errorf("mountpoint %q: %v", info.Mountpoint, err)
	}
}

func TestSizeIsWhatDuSays(t *testing.T) {
	r := rt.New(t, rt.Options{})
	i := app("1")
	i.Layers = append(i.Layers, file("big", strings.Repeat("0123456789abcdef", 1<<16)), file("small", ""))
	r.MustPush(t, "app:1", i)
	n := newNode(t)
	n.mustPull(r.Ref("app:1"))
	var bytes uint64
	for _, l := range n.entries("layers") {
		use, err := walk("", filepath.Join(n.layout.Layers(), l))
		if err != nil {
			t.Fatal(err)
		}
		bytes += use.Bytes
	}
	got, _ := n.Get(t.Context(), r.Ref("app:1"))
	if diff := int64(got.Size) - int64(bytes); diff > int64(bytes)/50 || -diff > int64(bytes)/50 || got.Size < 1<<20 {
		t.Errorf("size %d, the layers take %d", got.Size, bytes)
	}
}
