package image

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	rt "github.com/runtimed/runtimed/integration/registrytest"
	"github.com/runtimed/runtimed/pkg/image/layer"
	"github.com/runtimed/runtimed/pkg/image/rootfs"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// jailed makes the store use the real worker and the real reader of merged layers.
func jailed(t *testing.T, n *node) {
	t.Helper()
	worker := filepath.Join(t.TempDir(), "runtimed-unpack")
	cmd := exec.Command("go", "build", "-tags=seccomp,netgo,osusergo", "-trimpath", "-ldflags", `-s -w -linkmode external -extldflags "-static"`,
		"-o", worker, "github.com/runtimed/runtimed/cmd/unpack")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	n.opts.Unpacker, n.opts.OpenFile, n.opts.FindFile = layer.Worker{Path: worker}, rootfs.Open, rootfs.Find
}

func TestPullWithTheRealWorker(t *testing.T) {
	r := rt.New(t, rt.Options{})
	n := newNode(t)
	jailed(t, n)
	for _, how := range []string{rt.Gzip, rt.Zstd, rt.None} {
		b := r.MustPush(t, "app:"+how, rt.Image{
			Compression: how, Config: rt.Config{Labels: map[string]string{"how": how}},
			Layers: []rt.Layer{
				{Files: []rt.File{
					{Name: "etc/", Mode: 0o750, UID: 7}, {Name: "etc/passwd", Mode: 0o640, UID: 3, GID: 4, Body: []byte("one")},
					{Name: "etc/group", Mode: 0o644, Body: []byte("gone")}, {Name: "bin/", Mode: 0o755}, {Name: "bin/su", Mode: 0o4755, Body: []byte("su")},
				}},
				// An implied parent, a whiteout, and a link that leads to the file below.
				{Files: []rt.File{
					{Name: "etc/shadow", Mode: 0o600, Body: []byte("two" + how)}, {Name: "etc/.wh.group", Mode: 0o600},
					{Name: "etc/link", Link: "/etc/passwd"}, {Name: "etc/out", Link: "../../../../../../etc/hostname"},
				}},
			},
		})
		if id := n.mustPull(r.Ref("app:" + how)); id != b.ID {
			t.Fatalf("id %s", id)
		}
		got, err := n.Get(t.Context(), b.ID)
		if err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string]string{"/etc/passwd": "one", "etc/shadow": "two" + how, "/etc/link": "one", "/etc/group": "", "/etc/out": "", "/nowhere": ""} {
			f, err := n.Open(got.Layers, path)
			if want == "" {
				if !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s %s: %v", how, path, err)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(f)
			f.Close()
			if err != nil || string(text) != want {
				t.Errorf("%s %s: %q, %v", how, path, text, err)
			}
		}
		top := filepath.Join(n.layout.Layers(), spec.LayerDir(got.Layers[1]))
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(top, "etc"), &st); err != nil || st.Uid != 7 || st.Mode&0o7777 != 0o750 {
			t.Errorf("%s: the implied parent is %o of %d, %v", how, st.Mode, st.Uid, err)
		}
	}
	n.wantClean()
	n.restart(nil)
	if images, _ := n.List(t.Context(), ""); len(images) != 3 {
		t.Errorf("%d images after a restart", len(images))
	}
}

func TestHostileLayersWithTheRealWorker(t *testing.T) {
	r := rt.New(t, rt.Options{})
	n := newNode(t)
	jailed(t, n)
	n.opts.Limits = layer.Limits{Bytes: 1 << 20, Entries: 100}
	canary := filepath.Join(t.TempDir(), "canary")
	for name, c := range map[string]struct {
		files []rt.File
		tar   []byte
		kind  error
	}{
		"out by dots":    {files: []rt.File{{Name: "../../../../../../.." + canary, Body: []byte("x")}}},
		"out by a link":  {files: []rt.File{{Name: "a", Link: filepath.Dir(canary)}, {Name: "a/canary", Body: []byte("x")}}},
		"hard link out":  {files: []rt.File{{Name: "a", Type: tar.TypeLink, Link: "/etc/passwd"}}, kind: errdefs.ErrInvalidArgument},
		"too many bytes": {files: []rt.File{{Name: "a", Body: make([]byte, 2<<20)}}, kind: errdefs.ErrResourceExhausted},
		"too many files": {files: func() (fs []rt.File) {
			for i := range 200 {
				fs = append(fs, rt.File{Name: strings.Repeat("x", i+1)})
			}
			return fs
		}(), kind: errdefs.ErrResourceExhausted},
		"no archive": {tar: []byte(strings.Repeat("garbage!", 1000)), kind: errdefs.ErrInvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			r.MustPush(t, "bad:1", rt.Image{Layers: []rt.Layer{{Files: c.files, Tar: c.tar}}})
			_, err := n.Pull(t.Context(), spec.PullRequest{Ref: r.Ref("bad:1")})
			if c.kind != nil && (!errors.Is(err, c.kind) || !strings.Contains(err.Error(), "layer 0")) {
				t.Errorf("got %v", err)
			}
			if _, err := os.Lstat(canary); err == nil {
				t.Fatal("a layer wrote outside")
			}
			n.wantClean()
		})
	}
}

func TestCancelKillsTheWorker(t *testing.T) {
	r := rt.New(t, rt.Options{})
	body := make([]byte, 64<<20)
	r.MustPush(t, "big:1", rt.Image{Compression: rt.None, Layers: []rt.Layer{{Files: []rt.File{{Name: "big", Body: body}}}}})
	n := newNode(t)
	jailed(t, n)
	ctx, cancel := context.WithCancel(t.Context())
	n.opts.Unpacker = cancelling{n.opts.Unpacker, cancel}
	if _, err := n.Pull(ctx, spec.PullRequest{Ref: r.Ref("big:1")}); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	waitFor(t, func() bool { return n.pulling.Load() == 0 })
	n.wantClean()
}

// cancelling ends the pull while the worker starts.
type cancelling struct {
	Unpacker
	cancel context.CancelFunc
}

func (c cancelling) Unpack(ctx context.Context, r layer.Request) (layer.Result, error) {
	go c.cancel()
	return c.Unpacker.Unpack(ctx, r)
}
