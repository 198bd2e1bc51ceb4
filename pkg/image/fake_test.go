package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	rt "github.com/runtimed/runtimed/integration/registrytest"
	"github.com/runtimed/runtimed/pkg/image/content"
	"github.com/runtimed/runtimed/pkg/image/layer"
	"github.com/runtimed/runtimed/pkg/image/registry"
	"github.com/runtimed/runtimed/pkg/image/trust"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

// unpacker is a worker that knows regular files and directories, in process.
type unpacker struct {
	calls atomic.Int64
	mu    sync.Mutex
	hook  func(r layer.Request) error // runs before; may block
}

func (u *unpacker) set(h func(layer.Request) error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.hook = h
}

func (u *unpacker) Unpack(ctx context.Context, r layer.Request) (layer.Result, error) {
	u.calls.Add(1)
	u.mu.Lock()
	hook := u.hook
	u.mu.Unlock()
	if hook != nil {
		if err := hook(r); err != nil {
			return layer.Result{}, err
		}
	}
	if ctx.Err() != nil {
		return layer.Result{}, ctx.Err()
	}
	for _, p := range r.Parents {
		if st, err := os.Stat(p); err != nil || !st.IsDir() {
			return layer.Result{}, fmt.Errorf("parent %s: %v", p, err)
		}
	}
	raw, err := expand(r)
	if err != nil {
		return layer.Result{}, spec.Invalidf("%w", err)
	}
	if got := string(content.FromBytes(raw)); got != r.DiffID {
		return layer.Result{}, spec.Invalidf("the layer's diff id is %s", got)
	}
	return layer.Result{}, untar(raw, r.Target)
}

func expand(r layer.Request) ([]byte, error) {
	switch r.Compression {
	case content.Gzip:
		z, err := gzip.NewReader(r.Blob)
		if err != nil {
			return nil, err
		}
		return io.ReadAll(z)
	case content.Zstd:
		z, err := zstd.NewReader(r.Blob)
		if err != nil {
			return nil, err
		}
		defer z.Close()
		return io.ReadAll(z)
	}
	return io.ReadAll(r.Blob)
}

func untar(raw []byte, target string) error {
	t := tar.NewReader(bytes.NewReader(raw))
	for {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		path := filepath.Join(target, h.Name)
		if h.Typeflag == tar.TypeDir {
			if err := os.MkdirAll(path, 0o755); err != nil {
				return err
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		b, err := io.ReadAll(t)
		if err != nil {
			return err
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			return err
		}
	}
}

// openFile looks in the topmost layer first.
func openFile(dirs []string, path string) (io.ReadCloser, error) {
	for _, d := range slices.Backward(dirs) {
		f, err := os.Open(filepath.Join(d, path))
		if !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
	}
	return nil, fs.ErrNotExist
}

func findFile(dirs []string, path string) (bool, error) {
	f, err := openFile(dirs, path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	info, err := f.(*os.File).Stat()
	return err == nil && info.IsDir(), err
}

// node is a store under test, with what is around it.
type node struct {
	*Store
	t        *testing.T
	layout   spec.Layout
	unpacker *unpacker
	log      *syncBuffer

	mu      sync.Mutex
	inUse   []spec.ImageUse
	observe step.Observer
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func newNode(t *testing.T) *node {
	t.Helper()
	dir := t.TempDir()
	n := &node{t: t, layout: spec.Layout{Root: filepath.Join(dir, "root"), Run: filepath.Join(dir, "run")}, unpacker: &unpacker{}, log: &syncBuffer{}}
	n.open()
	t.Cleanup(func() { n.Close() })
	return n
}

func (n *node) open() {
	n.t.Helper()
	client, err := registry.New(registry.Config{Backoff: time.Millisecond, ProgressTimeout: 5 * time.Second, Retries: 1})
	if err != nil {
		n.t.Fatal(err)
	}
	policy, err := trust.NewPolicy("off")
	if err != nil {
		n.t.Fatal(err)
	}
	n.Store, err = Open(Options{
		Layout: n.layout, Registry: client, Policy: policy, Unpacker: n.unpacker, OpenFile: openFile, FindFile: findFile,
		InUse: n.containers, Observe: n.see, Log: slog.New(slog.NewTextHandler(n.log, nil)),
	})
	if err != nil {
		n.t.Fatal(err)
	}
}

// restart is a daemon that is killed and comes back. prepare runs while it is down.
func (n *node) restart(prepare func()) {
	n.t.Helper()
	n.Close()
	if prepare != nil {
		prepare()
	}
	n.open()
}

func (n *node) containers() []spec.ImageUse {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.inUse
}

func (n *node) run(uses ...spec.ImageUse) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.inUse = uses
}

func (n *node) watch(o step.Observer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.observe = o
}

func (n *node) see(e step.Event) error {
	n.mu.Lock()
	o := n.observe
	n.mu.Unlock()
	if o == nil {
		return nil
	}
	return o(e)
}

func (n *node) mustPull(ref string) string {
	n.t.Helper()
	id, err := n.Pull(n.t.Context(), spec.PullRequest{Ref: ref})
	if err != nil {
		n.t.Fatalf("pull %s: %v", ref, err)
	}
	return id
}

func (n *node) entries(names ...string) []string {
	n.t.Helper()
	es, err := os.ReadDir(filepath.Join(append([]string{n.layout.Images()}, names...)...))
	if err != nil {
		n.t.Fatal(err)
	}
	var out []string
	for _, e := range es {
		out = append(out, e.Name())
	}
	return out
}

// settled waits until everything that is on its way out is gone, and says what is there that should not be.
func (n *node) wantClean() {
	n.t.Helper()
	n.Collect()
	deadline := time.Now().Add(10 * time.Second)
	for {
		left := slices.Concat(n.entries("ingest"), n.entries("staging"), n.entries("trash"))
		if len(left) == 0 {
			break
		}
		if time.Now().After(deadline) {
			n.t.Fatalf("left over: %v", left)
		}
		time.Sleep(5 * time.Millisecond)
	}
	want := map[string]bool{}
	images, err := n.List(n.t.Context(), "")
	if err != nil {
		n.t.Fatal(err)
	}
	for _, i := range images {
		for _, l := range i.Layers {
			want[spec.LayerDir(l)] = true
		}
	}
	for _, u := range n.containers() {
		for _, l := range u.Layers {
			want[spec.LayerDir(l)] = true
		}
	}
	for _, l := range n.entries("layers") {
		if !want[l] {
			n.t.Errorf("layer %s belongs to nobody", l)
		}
		delete(want, l)
	}
	for l := range want {
		n.t.Errorf("layer %s is missing", l)
	}
	if got := len(n.entries("records")); got != len(images) {
		n.t.Errorf("%d records, %d images", got, len(images))
	}
	if got := len(n.entries("blobs", "sha256")); got != 2*len(images) {
		n.t.Errorf("%d blobs for %d images", got, len(images))
	}
	Store := n.Store
	Store.mu.Lock()
	defer Store.mu.Unlock()
	if len(Store.flights)+len(Store.active)+len(Store.locks) > 0 {
		n.t.Errorf("flights %d, active %d, locks %d", len(Store.flights), len(Store.active), len(Store.locks))
	}
}

func file(name, body string) rt.Layer {
	return rt.Layer{Files: []rt.File{{Name: name, Mode: 0o644, Body: []byte(body)}}}
}

// app is an image with a base layer that others share.
func app(version string) rt.Image {
	return rt.Image{
		Config: rt.Config{User: "1000:1000", Env: []string{"V=" + version}, Cmd: []string{"/app"}, Volumes: map[string]struct{}{"/data": {}},
			WorkingDir: "/srv", StopSignal: "SIGINT", Labels: map[string]string{"io.kubernetes.pod.name": "evil"}},
		Layers:  []rt.Layer{file("etc/passwd", "root:x:0:0::/:/bin/sh\n"), file("app", version)},
		Created: "2024-05-06T07:08:09Z",
	}
}
