package image

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	rt "github.com/runtimed/runtimed/integration/registrytest"
	"github.com/runtimed/runtimed/pkg/image/trust"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func TestPullKeepsWhatTheRegistryHas(t *testing.T) {
	r := rt.New(t, rt.Options{})
	for name, i := range map[string]rt.Image{
		"oci-gzip": {}, "oci-zstd": {Compression: rt.Zstd}, "oci-plain": {Compression: rt.None}, "docker": {Docker: true},
	} {
		base := app(name)
		base.Compression, base.Docker = i.Compression, i.Docker
		b := r.MustPush(t, name+":1", base)
		n := newNode(t)
		if id := n.mustPull(r.Ref(name + ":1")); id != b.ID {
			t.Errorf("%s: id %s, want %s", name, id, b.ID)
		}
		got, err := n.Get(t.Context(), r.Ref(name+":1"))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.RepoTags, []string{r.Ref(name + ":1")}) || !slices.Equal(got.RepoDigests, []string{r.Ref(name + "@" + b.Digest)}) {
			t.Errorf("%s: tags %v, digests %v", name, got.RepoTags, got.RepoDigests)
		}
		c := got.Config
		if c.User != "1000:1000" || !slices.Equal(c.Env, []string{"V=" + name}) || !slices.Equal(c.Volumes, []string{"/data"}) ||
			c.WorkingDir != "/srv" || c.StopSignal != "SIGINT" || c.OS != "linux" || !slices.Equal(c.Cmd, []string{"/app"}) {
			t.Errorf("%s: config %+v", name, c)
		}
		if want := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC).UnixNano(); got.CreatedAt != want || got.Size == 0 || len(got.Layers) != 2 {
			t.Errorf("%s: created %d, size %d, layers %v", name, got.CreatedAt, got.Size, got.Layers)
		}
		f, err := n.Open(got.Layers, "etc/passwd")
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(f)
		f.Close()
		if err != nil || !strings.HasPrefix(string(text), "root:") {
			t.Errorf("%s: %q, %v", name, text, err)
		}
		n.wantClean()
	}
}

func TestOpenMatchesNotExist(t *testing.T) {
	n := newNode(t)
	if _, err := n.Open(nil, "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no layers: %v", err)
	}
	if _, err := n.Open([]string{"sha256:" + strings.Repeat("0", 64)}, "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no such layer: %v", err)
	}
	if _, err := n.Open([]string{"../../etc"}, "passwd"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a path for a chain id: %v", err)
	}
}

func TestGetByEveryName(t *testing.T) {
	r := rt.New(t, rt.Options{})
	b := r.MustPush(t, "team/app:1", app("1"))
	n := newNode(t)
	n.mustPull(r.Ref("team/app:1"))
	hex := strings.TrimPrefix(b.ID, "sha256:")
	for _, ref := range []string{
		r.Ref("team/app:1"), r.Ref("team/app@" + b.Digest), r.Ref("team/app:any@" + b.Digest), b.ID, hex, hex[:13], hex[:12], "sha256:" + hex[:13],
	} {
		if got, err := n.Get(t.Context(), ref); err != nil || got.ID != b.ID {
			t.Errorf("Get(%q) = %s, %v", ref, got.ID, err)
		}
		if got, err := n.List(t.Context(), ref); err != nil || len(got) != 1 {
			t.Errorf("List(%q) = %v, %v", ref, got, err)
		}
	}
	for _, ref := range []string{
		r.Ref("team/app"), r.Ref("team/app:2"), r.Ref("app:1"), "app:1", "busybox", strings.Repeat("0", 64), strings.Repeat("0", 13), hex[:11], hex[1:14],
		r.Ref("team/app@sha256:" + strings.Repeat("0", 64)), "other.example/team/app@" + b.Digest,
	} {
		if _, err := n.Get(t.Context(), ref); !errdefs.IsNotFound(err) {
			t.Errorf("Get(%q): %v", ref, err)
		}
	}
	for _, ref := range []string{"", "sha256:", "sha256:abc", "sha256:" + strings.ToUpper(hex), "../x", "a b", "sha256:" + hex + "0", b.ID + "\n"} {
		if _, err := n.Get(t.Context(), ref); !errdefs.IsInvalidArgument(err) {
			t.Errorf("Get(%q): %v", ref, err)
		}
	}
	if got, err := n.List(t.Context(), r.Ref("team/app")); err != nil || len(got) != 1 {
		t.Errorf("a repository finds %v, %v", got, err)
	}
	if got, err := n.List(t.Context(), r.Ref("team/ap")); err != nil || len(got) != 0 {
		t.Errorf("another repository finds %v, %v", got, err)
	}
}

// Names of Docker's hub are shortened by people; the record must find them all.
func TestShortNames(t *testing.T) {
	r := rt.New(t, rt.Options{})
	b := r.MustPush(t, "library/busybox:latest", app("1"))
	n := newNode(t)
	n.mustPull(r.Ref("library/busybox"))
	n.restart(func() {
		file := n.record(digestOf(digestHex(b.ID)))
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(text), r.Host, "docker.io")), 0o600); err != nil {
			t.Fatal(err)
		}
	})
	for _, ref := range []string{"busybox", "busybox:latest", "docker.io/busybox", "docker.io/library/busybox:latest", "index.docker.io/library/busybox", "busybox@" + b.Digest} {
		got, err := n.Get(t.Context(), ref)
		if err != nil || got.RepoTags[0] != "docker.io/library/busybox:latest" {
			t.Errorf("Get(%q) = %v, %v", ref, got.RepoTags, err)
		}
	}
}

func TestAmbiguousPrefix(t *testing.T) {
	n := newNode(t)
	a, b := strings.Repeat("a", 63)+"0", strings.Repeat("a", 63)+"1"
	n.Store.mu.Lock()
	for _, hex := range []string{a, b} {
		id := digestOf(hex)
		n.images[id] = &image{record: record{ID: id}}
	}
	n.Store.mu.Unlock()
	if _, err := n.Get(t.Context(), a[:20]); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "more than one") {
		t.Errorf("got %v", err)
	}
	if err := n.Remove(t.Context(), a[:20]); !errdefs.IsInvalidArgument(err) {
		t.Errorf("remove: %v", err)
	}
	if got, err := n.Get(t.Context(), a); err != nil || got.ID != "sha256:"+a {
		t.Errorf("the whole id: %v, %v", got.ID, err)
	}
}

func TestDigestPullHasNoTag(t *testing.T) {
	r := rt.New(t, rt.Options{})
	b := r.MustPush(t, "app:1", app("1"))
	n := newNode(t)
	for _, ref := range []string{r.Ref("app@" + b.Digest), r.Ref("app:1@" + b.Digest)} {
		if id := n.mustPull(ref); id != b.ID {
			t.Errorf("id %s", id)
		}
	}
	got, err := n.Get(t.Context(), b.ID)
	if err != nil || len(got.RepoTags) != 0 || !slices.Equal(got.RepoDigests, []string{r.Ref("app@" + b.Digest)}) {
		t.Errorf("got %+v, %v", got, err)
	}
	n.mustPull(r.Ref("app:1"))
	if got, _ = n.Get(t.Context(), b.ID); len(got.RepoTags) != 1 || len(got.RepoDigests) != 1 {
		t.Errorf("with the tag: %+v", got)
	}
	n.wantClean()
}

func TestNoPolicyNoPull(t *testing.T) {
	r := rt.New(t, rt.Options{})
	r.MustPush(t, "app:1", app("1"))
	n := newNode(t)
	n.opts.Policy = trust.Policy{}
	_, err := n.Pull(t.Context(), spec.PullRequest{Ref: r.Ref("app:1")})
	if err == nil || !strings.HasPrefix(err.Error(), "SignatureValidationFailed") || !strings.Contains(err.Error(), `trust.mode = "off"`) || !errors.Is(spec.KindOf(err), errdefs.ErrUnknown) {
		t.Fatalf("got %v", err)
	}
	if len(r.Requests()) != 0 || n.unpacker.calls.Load() != 0 {
		t.Error("something was fetched or unpacked")
	}
	n.wantClean()
}

func TestDirectoriesAreClosed(t *testing.T) {
	n := newNode(t)
	for _, dir := range []string{n.layout.Images(), n.layout.Layers(), n.sub("staging"), n.sub("trash"), n.sub("ingest"), n.sub("records")} {
		if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", dir, st.Mode(), err)
		}
	}
	n.restart(func() {
		if err := os.Chmod(n.layout.Layers(), 0o777); err != nil {
			t.Fatal(err)
		}
	})
	if st, _ := os.Stat(n.layout.Layers()); st.Mode().Perm() != 0o700 {
		t.Errorf("an open directory stays open: %v", st.Mode())
	}
}

func TestOptionsAreChecked(t *testing.T) {
	if _, err := Open(Options{}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("got %v", err)
	}
}

func TestClosedStore(t *testing.T) {
	r := rt.New(t, rt.Options{})
	r.MustPush(t, "app:1", app("1"))
	n := newNode(t)
	r.Intercept(rt.On("/blobs/", rt.Hang(0)))
	done := make(chan error, 1)
	go func() {
		_, err := n.Pull(context.Background(), spec.PullRequest{Ref: r.Ref("app:1")})
		done <- err
	}()
	waitFor(t, func() bool { return r.Count("/blobs/") > 0 })
	n.Close()
	if err := <-done; !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "stopping") {
		t.Errorf("the pull in flight: %v", err)
	}
	if _, err := n.Pull(t.Context(), spec.PullRequest{Ref: r.Ref("app:1")}); !errdefs.IsUnavailable(err) {
		t.Errorf("a new pull: %v", err)
	}
	if left := n.entries("ingest"); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it never came")
		}
	}
}
