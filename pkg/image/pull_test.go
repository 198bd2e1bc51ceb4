package image

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	rt "github.com/runtimed/runtimed/integration/registrytest"
	"github.com/runtimed/runtimed/pkg/image/content"
	"github.com/runtimed/runtimed/pkg/image/layer"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

func digestOf(hex string) content.Digest { return content.Digest("sha256:" + hex) }
func digestHex(id string) string         { return strings.TrimPrefix(id, "sha256:") }

var stepNames = []string{"resolve", "verify", "fetch", "unpack", "commit"}

func TestStepsAreListed(t *testing.T) {
	p := &puller{Store: &Store{}}
	for i, s := range p.steps() {
		if s.Name != stepNames[i] || s.Do == nil || s.Undo == nil {
			t.Errorf("step %d is %q; each needs a do and an undo that this test knows", i, s.Name)
		}
	}
}

// Each step fails before it is done, and each undo fails; nothing that is left may look whole or stay.
func TestEveryStepFails(t *testing.T) {
	r := rt.New(t, rt.Options{})
	b := r.MustPush(t, "app:1", app("1"))
	r.MustPush(t, "base:1", rt.Image{Layers: app("1").Layers[:1]})
	planned := errors.New("planned failure")
	for _, name := range stepNames {
		for _, undo := range append([]string{""}, stepNames...) {
			t.Run(name+"/undo "+undo, func(t *testing.T) {
				n := newNode(t)
				n.mustPull(r.Ref("base:1"))
				n.watch(func(e step.Event) error {
					if e.Flow == "pull" && (e.Phase == step.Doing && e.Step == name || e.Phase == step.Undoing && e.Step == undo) {
						return planned
					}
					return nil
				})
				_, err := n.Pull(t.Context(), spec.PullRequest{Ref: r.Ref("app:1")})
				if !errors.Is(err, planned) {
					t.Fatalf("got %v", err)
				}
				if _, err := n.Get(t.Context(), b.ID); !errdefs.IsNotFound(err) {
					t.Errorf("half an image is there: %v", err)
				}
				n.watch(nil)
				n.wantClean()
				n.restart(nil)
				n.wantClean()
				if id := n.mustPull(r.Ref("app:1")); id != b.ID {
					t.Errorf("then: %s", id)
				}
				n.wantClean()
			})
		}
	}
}

// The same for an image that is there already: a failed pull leaves it alone.
func TestFailedPullLeavesTheOldImage(t *testing.T) {
	r := rt.New(t, rt.Options{})
	b := r.MustPush(t, "app:1", app("1"))
	n := newNode(t)
	n.mustPull(r.Ref("app:1"))
	for _, name := range stepNames {
		n.watch(func(e step.Event) error {
			if e.Phase == step.Doing && e.Step == name {
				return errors.New("planned failure")
			}
			return nil
		})
		if _, err := n.Pull(t.Context(), spec.PullRequest{Ref: r.Ref("app:1")}); err == nil {
			t.Fatal("it succeeded")
		}
		n.wantClean()
		if got, err := n.Get(t.Context(), r.Ref("app:1")); err != nil || got.ID != b.ID {
			t.Errorf("%s: %v, %v", name, got.ID, err)
		}
	}
}

func TestEveryStepCancelled(t *testing.T) {
	r := rt.New(t, rt.Options{})
	b := r.MustPush(t, "app:1", app("1"))
	for _, name := range stepNames {
		for _, phase := range []step.Phase{step.Doing, step.Done} {
			t.Run(name+" "+string(phase), func(t *testing.T) {
				n := newNode(t)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				n.watch(func(e step.Event) error {
					if e.Step == name && e.Phase == phase {
						cancel()
						waitFor(t, func() bool { // the flight knows that its only caller left
							n.Store.mu.Lock()
							defer n.Store.mu.Unlock()
							for _, f := range n.flights {
								return f.waiting == 0
							}
							return true
						})
					}
					return nil
				})
				_, err := n.Pull(ctx, spec.PullRequest{Ref: r.Ref("app:1")})
				if !errors.Is(err, context.Canceled) {
					t.Fatalf("got %v", err)
				}
				n.watch(nil)
				waitFor(t, func() bool { return n.pulling.Load() == 0 })
				n.wantClean()
				// A commit that was under way is finished; before it, nothing is there.
				if _, err := n.Get(t.Context(), b.ID); (err == nil) != (name == "commit") {
					t.Errorf("the image: %v", err)
				}
				n.mustPull(r.Ref("app:1"))
				n.wantClean()
			})
		}
	}
}

func TestExpiredDeadline(t *testing.T) {
	r := rt.New(t, rt.Options{})
	r.MustPush(t, "app:1", app("1"))
	n := newNode(t)
	ctx, cancel := context.WithTimeout(t.Context(), -time.Second)
	defer cancel()
	if _, err := n.Pull(ctx, spec.PullRequest{Ref: r.Ref("app:1")}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("expired before: %v", err)
	}
	r.Intercept(rt.On("/blobs/", rt.Hang(0)))
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := n.Pull(ctx, spec.PullRequest{Ref: r.Ref("app:1")}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("expired meanwhile: %v", err)
	}
}

func TestLocalLayersAreNotFetched(t *testing.T) {
	r := rt.New(t, rt.Options{})
	one := r.MustPush(t, "app:1", app("1"))
	n := newNode(t)
	n.mustPull(r.Ref("app:1"))
	two := r.MustPush(t, "app:2", app("2"))
	r.Forget()
	n.mustPull(r.Ref("app:2"))
	n.mustPull(r.Ref("app:1"))
	if r.Count(one.Layers[0]) != 0 || r.Count(one.Layers[1]) != 0 || r.Count(two.Layers[1]) != 1 {
		t.Errorf("fetched: shared %d, old %d, new %d", r.Count(one.Layers[0]), r.Count(one.Layers[1]), r.Count(two.Layers[1]))
	}
}

func TestSameBlobTwice(t *testing.T) {
	r := rt.New(t, rt.Options{})
	i := app("1")
	i.Layers = append(i.Layers, i.Layers[0], i.Layers[1], i.Layers[0])
	b := r.MustPush(t, "app:1", i)
	n := newNode(t)
	n.mustPull(r.Ref("app:1"))
	if got, err := n.Get(t.Context(), b.ID); err != nil || len(got.Layers) != 5 || len(n.entries("layers")) != 5 {
		t.Errorf("layers %v, %v", got.Layers, err)
	}
	if r.Count(b.Layers[0]) != 1 {
		t.Errorf("fetched %d times", r.Count(b.Layers[0]))
	}
	n.wantClean()
}

func TestIndexPull(t *testing.T) {
	r := rt.New(t, rt.Options{})
	b, err := app("1").Build()
	if err != nil {
		t.Fatal(err)
	}
	root, err := r.PushIndex("app:1", false, rt.Entry{Built: b}, rt.Entry{Built: b, Architecture: "riscv64"})
	if err != nil {
		t.Fatal(err)
	}
	n := newNode(t)
	if id := n.mustPull(r.Ref("app:1")); id != b.ID {
		t.Errorf("id %s", id)
	}
	got, _ := n.Get(t.Context(), r.Ref("app@"+root))
	if got.ID != b.ID || len(got.RepoDigests) != 1 || got.RepoDigests[0] != r.Ref("app@"+root) {
		t.Errorf("digests %v: what was asked for is the index", got.RepoDigests)
	}
}

func TestBadImages(t *testing.T) {
	r := rt.New(t, rt.Options{})
	n := newNode(t)
	for name, c := range map[string]struct {
		image  rt.Image
		change func(*rt.Built)
		how    rt.Intercept
		unpack error
		kind   error
		text   string
	}{
		"other platform":         {image: rt.Image{Architecture: "s390x"}, kind: errdefs.ErrInvalidArgument, text: "s390x"},
		"other system":           {image: rt.Image{OS: "windows"}, kind: errdefs.ErrInvalidArgument, text: "windows"},
		"diff id of other bytes": {change: func(b *rt.Built) { swapConfig(b, b.DiffIDs[1], rt.Digest([]byte("x"))) }, kind: errdefs.ErrInvalidArgument, text: "diff id"},
		"a diff id too few":      {change: func(b *rt.Built) { swapConfig(b, `,"`+b.DiffIDs[1]+`"`, "") }, kind: errdefs.ErrInvalidArgument, text: "names 1 layers"},
		"diff id with a path":    {change: func(b *rt.Built) { swapConfig(b, b.DiffIDs[1], "sha256:../../../../etc") }, kind: errdefs.ErrInvalidArgument, text: "cannot be read"},
		"config is no JSON":      {change: func(b *rt.Built) { swapConfig(b, "{", "[") }, kind: errdefs.ErrInvalidArgument, text: "JSON"},
		"long environment":       {image: rt.Image{Config: rt.Config{Env: []string{"X=" + strings.Repeat("x", 100<<10)}}}, kind: errdefs.ErrInvalidArgument, text: "Env"},
		"many labels":            {image: rt.Image{Config: rt.Config{Env: strings.Split(strings.Repeat("A=b ", 10000), " ")}}, kind: errdefs.ErrInvalidArgument, text: "Env"},
		"layer is no gzip":       {image: rt.Image{Layers: []rt.Layer{{Tar: []byte("x"), Compression: rt.None}}}, change: asGzip, kind: errdefs.ErrInvalidArgument, text: "layer 0"},
		"blob cut off":           {how: rt.On("/blobs/", rt.Short(3)), kind: errdefs.ErrDataLoss, text: "ended after"},
		"blob changed":           {how: rt.On("/blobs/", rt.Flip()), kind: errdefs.ErrDataLoss, text: "other bytes"},
		"registry fails":         {how: rt.On("/blobs/", rt.Status(500)), kind: errdefs.ErrUnknown, text: "RegistryUnavailable"},
		"unpack limit":           {unpack: spec.Errorf(errdefs.ErrResourceExhausted, "too many entries"), kind: errdefs.ErrResourceExhausted, text: "too many entries"},
		"worker dies":            {unpack: spec.Errorf(errdefs.ErrUnavailable, "the worker died"), kind: errdefs.ErrUnavailable, text: "the worker died"},
		"disk full":              {unpack: fmt.Errorf("write x: %w", unix.ENOSPC), kind: errdefs.ErrResourceExhausted, text: "no space"},
	} {
		t.Run(name, func(t *testing.T) {
			i := app("1")
			if c.image.Layers != nil {
				i.Layers = c.image.Layers
			}
			i.Architecture, i.OS = c.image.Architecture, c.image.OS
			if c.image.Config.Env != nil {
				i.Config = c.image.Config
			}
			b, err := i.Build()
			if err != nil {
				t.Fatal(err)
			}
			if c.change != nil {
				c.change(&b)
			}
			if err := r.PushBuilt("bad:1", b); err != nil {
				t.Fatal(err)
			}
			r.Intercept(c.how)
			defer r.Intercept(nil)
			n.unpacker.set(func(layer.Request) error { return c.unpack })
			_, err = n.Pull(t.Context(), spec.PullRequest{Ref: r.Ref("bad:1")})
			if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.text) {
				t.Fatalf("got %v", err)
			}
			if c.text == "RegistryUnavailable" && !strings.HasPrefix(err.Error(), c.text) {
				t.Errorf("a kubelet does not know it: %v", err)
			}
			n.wantClean()
			if images, _ := n.List(t.Context(), ""); len(images) != 0 {
				t.Errorf("images %v", images)
			}
		})
	}
	for _, ref := range []string{"", "a b", "../x", "r.example/a@sha256:short", strings.Repeat("a", 64)} {
		if _, err := n.Pull(t.Context(), spec.PullRequest{Ref: ref}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", ref, err)
		}
	}
}

// swapConfig changes the config and all that follows from it.
func swapConfig(b *rt.Built, old, now string) {
	config := []byte(strings.Replace(string(b.Config), old, now, 1))
	delete(b.Blobs, b.ID)
	id := rt.Digest(config)
	manifest := strings.Replace(string(b.Manifest), b.ID, id, 1)
	manifest = strings.Replace(manifest, fmt.Sprintf(`"size":%d,"digest":%q`, len(b.Config), id), fmt.Sprintf(`"size":%d,"digest":%q`, len(config), id), 1)
	b.Config, b.ID, b.Manifest = config, id, []byte(manifest)
	b.Blobs[id], b.Digest = config, rt.Digest([]byte(manifest))
}

func asGzip(b *rt.Built) {
	b.Manifest = []byte(strings.ReplaceAll(string(b.Manifest), "layer.v1.tar", "layer.v1.tar+gzip"))
	b.Digest = rt.Digest(b.Manifest)
}

func TestPlatformIsThisNodes(t *testing.T) {
	n := newNode(t)
	if p := n.opts.Registry.Platform(); p.OS != "linux" || p.Architecture != runtime.GOARCH {
		t.Errorf("got %+v", p)
	}
}
