package image

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	rt "github.com/runtimed/runtimed/integration/registrytest"
	"github.com/runtimed/runtimed/pkg/image/layer"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func TestEqualPullsAreOne(t *testing.T) {
	r := rt.New(t, rt.Options{})
	b := r.MustPush(t, "app:1", app("1"))
	n := newNode(t)
	gate := make(chan struct{})
	r.Intercept(rt.On("/manifests/", func(w http.ResponseWriter, q *http.Request, next http.Handler) {
		<-gate
		next.ServeHTTP(w, q)
	}))
	const callers = 50
	var wg sync.WaitGroup
	leaving, leave := context.WithCancel(t.Context())
	for i := range callers {
		wg.Go(func() {
			ctx := t.Context()
			if i%2 == 0 {
				ctx = leaving
			}
			id, err := n.Pull(ctx, spec.PullRequest{Ref: r.Ref("app:1")})
			if i%2 == 0 {
				if !errors.Is(err, context.Canceled) {
					t.Errorf("a caller who left: %s, %v", id, err)
				}
			} else if err != nil || id != b.ID {
				t.Errorf("a caller who stayed: %s, %v", id, err)
			}
		})
	}
	waiting := func() (sum int) {
		n.Store.mu.Lock()
		defer n.Store.mu.Unlock()
		for _, f := range n.flights {
			sum += f.waiting
		}
		return sum
	}
	waitFor(t, func() bool { return waiting() == callers && r.Count("/manifests/") > 0 })
	leave()
	waitFor(t, func() bool { return waiting() == callers/2 })
	close(gate)
	wg.Wait()
	if got := r.Count("/manifests/"); got != 1 {
		t.Errorf("the manifest was fetched %d times", got)
	}
	if got := n.unpacker.calls.Load(); got != 2 {
		t.Errorf("%d layers were unpacked", got)
	}
	n.wantClean()
}

func TestLastCallerEndsThePull(t *testing.T) {
	r := rt.New(t, rt.Options{})
	r.MustPush(t, "app:1", app("1"))
	n := newNode(t)
	gone := make(chan struct{}, 1)
	r.Intercept(rt.On("/blobs/", func(w http.ResponseWriter, q *http.Request, next http.Handler) {
		rt.Hang(0)(w, q, next)
		select {
		case gone <- struct{}{}:
		default:
		}
	}))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() { n.Pull(ctx, spec.PullRequest{Ref: r.Ref("app:1")}) })
	}
	waitFor(t, func() bool { return r.Count("/blobs/") > 0 })
	cancel()
	wg.Wait()
	select {
	case <-gone:
	case <-time.After(5 * time.Second):
		t.Fatal("the pull goes on without callers")
	}
	r.Intercept(nil)
	// A successor does not join what is being taken down.
	n.mustPull(r.Ref("app:1"))
	n.wantClean()
}

func TestCredentialsSeparatePulls(t *testing.T) {
	r := rt.New(t, rt.Options{Username: "user", Password: "secret"})
	b := r.MustPush(t, "app:1", app("1"))
	n := newNode(t)
	n.unpacker.set(func(layer.Request) error { time.Sleep(10 * time.Millisecond); return nil })
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			auth := spec.RegistryAuth{Username: "user", Password: "secret"}
			if i%2 == 0 {
				auth.Password = "wrong"
			}
			id, err := n.Pull(t.Context(), spec.PullRequest{Ref: r.Ref("app:1"), Auth: auth})
			if i%2 == 0 {
				if !errdefs.IsPermissionDenied(err) {
					t.Errorf("wrong password: %s, %v", id, err)
				}
			} else if err != nil || id != b.ID {
				t.Errorf("right password: %s, %v", id, err)
			}
		})
	}
	wg.Wait()
	n.wantClean()
	if strings.Contains(n.log.String(), "secret") {
		t.Errorf("the log shows a password: %s", n.log)
	}
}

// Different names for one image, and different images on one base, all at once.
func TestConcurrentPullsShareLayers(t *testing.T) {
	r := rt.New(t, rt.Options{})
	n := newNode(t)
	var refs []string
	ids := map[string]string{}
	for i := range 12 {
		ref := fmt.Sprintf("app%d:x", i)
		b := r.MustPush(t, ref, app(fmt.Sprint(i/3)))
		refs = append(refs, r.Ref(ref))
		ids[r.Ref(ref)] = b.ID
	}
	var wg sync.WaitGroup
	for _, ref := range refs {
		wg.Go(func() {
			if id, err := n.Pull(t.Context(), spec.PullRequest{Ref: ref}); err != nil || id != ids[ref] {
				t.Errorf("%s: %s, %v", ref, id, err)
			}
		})
	}
	wg.Wait()
	n.wantClean()
	if got := len(n.entries("layers")); got != 5 {
		t.Errorf("%d layers, want 4 and the shared one", got)
	}
	if images, _ := n.List(t.Context(), ""); len(images) != 4 || len(images[0].RepoTags) != 3 {
		t.Errorf("images %v", images)
	}
}

func TestPullAndRemoveAndUseAllAtOnce(t *testing.T) {
	r := rt.New(t, rt.Options{})
	for i := range 3 {
		r.MustPush(t, fmt.Sprintf("app:%d", i), app(fmt.Sprint(i)))
	}
	n := newNode(t)
	var wg sync.WaitGroup
	for i := range 24 {
		ref := r.Ref(fmt.Sprintf("app:%d", i%3))
		wg.Go(func() {
			for range 5 {
				switch i / 3 % 3 {
				case 0:
					if _, err := n.Pull(t.Context(), spec.PullRequest{Ref: ref}); err != nil {
						t.Errorf("pull: %v", err)
					}
				case 1:
					if err := n.Remove(t.Context(), ref); err != nil {
						t.Errorf("remove: %v", err)
					}
				case 2:
					use, release, err := n.Use(t.Context(), ref)
					if errdefs.IsNotFound(err) {
						continue
					}
					if err != nil {
						t.Errorf("use: %v", err)
						continue
					}
					for _, l := range use.Layers {
						if _, err := os.Stat(filepath.Join(n.layout.Layers(), spec.LayerDir(l))); err != nil {
							t.Errorf("a borrowed layer is gone: %v", err)
						}
					}
					release()
				}
			}
		})
	}
	wg.Wait()
	n.wantClean()
	n.restart(nil)
	n.wantClean()
}
