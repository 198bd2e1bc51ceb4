package image

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	rt "github.com/runtimed/runtimed/integration/registrytest"
	"github.com/runtimed/runtimed/pkg/image/content"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestLeftoversOfAKilledPull(t *testing.T) {
	r := rt.New(t, rt.Options{})
	b := r.MustPush(t, "app:1", app("1"))
	n := newNode(t)
	orphan := content.ChainIDs([]content.Digest{digestOf(digestHex(b.DiffIDs[0])), digestOf(digestHex(b.DiffIDs[1]))})[1]
	n.restart(func() {
		write(t, n.sub("ingest", "OLD", "blob"), "half")
		write(t, n.sub("staging", "OLD", "layer", "file"), "half")
		write(t, n.sub("trash", "OLD", "file"), "gone")
		write(t, n.sub("records", ".tmp-123"), `{"half":`)
		write(t, n.sub("blobs", "sha256", ".tmp-123"), "half")
		write(t, n.sub("blobs", "sha256", digestHex(b.ID)), "")
		// What a power cut leaves of a layer that was renamed and not yet synced.
		write(t, filepath.Join(n.layer(orphan), "app"), "")
	})
	if images, err := n.List(t.Context(), ""); err != nil || len(images) != 0 {
		t.Errorf("images %v, %v", images, err)
	}
	n.mustPull(r.Ref("app:1"))
	n.wantClean()
	text, err := os.ReadFile(filepath.Join(n.layer(orphan), "app"))
	if err != nil || string(text) != "1" {
		t.Errorf("a torn layer was taken for whole: %q, %v", text, err)
	}
}

func TestDamagedRecords(t *testing.T) {
	r := rt.New(t, rt.Options{})
	b := r.MustPush(t, "app:1", app("1"))
	r.MustPush(t, "other:1", rt.Image{Layers: []rt.Layer{file("x", "y")}})
	id := digestOf(digestHex(b.ID))
	replace := func(old, now string) func(n *node) {
		return func(n *node) {
			text, err := os.ReadFile(n.record(id))
			if err != nil {
				n.t.Fatal(err)
			}
			changed := strings.Replace(string(text), old, now, 1)
			if changed == string(text) {
				n.t.Fatalf("%q is not in %s", old, text)
			}
			write(n.t, n.record(id), changed)
		}
	}
	for name, damage := range map[string]func(n *node){
		"empty":                func(n *node) { write(n.t, n.record(id), "") },
		"torn":                 func(n *node) { os.Truncate(n.record(id), 40) },
		"scrambled":            func(n *node) { write(n.t, n.record(id), "\x00\xff\x13garbage") },
		"another version":      replace(`"Version":1`, `"Version":99`),
		"another id":           replace(digestHex(b.ID), strings.Repeat("0", 64)),
		"id is a path":         replace(b.ID, "sha256:../../x"),
		"layer is a path":      replace(b.DiffIDs[0], "sha256:../../../../etc"),
		"other layers":         replace(b.DiffIDs[0], "sha256:"+strings.Repeat("1", 64)),
		"tag is no tag":        replace(`"`+r.Ref("app:1")+`":1`, `"../../x":1`),
		"digest is no digest":  replace(`"`+r.Ref("app@"+b.Digest)+`"`, `"x"`),
		"config is gone":       func(n *node) { n.blobs.Remove(id) },
		"config was changed":   func(n *node) { write(n.t, n.sub("blobs", "sha256", id.Hex()), "{}") },
		"manifest was changed": func(n *node) { write(n.t, n.sub("blobs", "sha256", digestHex(b.Digest)), "{}") },
		"layer is gone":        func(n *node) { os.RemoveAll(filepath.Join(n.layout.Layers(), digestHex(b.DiffIDs[0]))) },
		"layer is a file": func(n *node) {
			dir := filepath.Join(n.layout.Layers(), digestHex(b.DiffIDs[0]))
			os.RemoveAll(dir)
			write(n.t, dir, "")
		},
		"record is a directory": func(n *node) {
			os.Remove(n.record(id))
			os.Mkdir(n.record(id), 0o700)
		},
		"record is a link": func(n *node) {
			os.Remove(n.record(id))
			os.Symlink("/etc/passwd", n.record(id))
		},
		"foreign file": func(n *node) {
			write(n.t, n.sub("records", "notes.txt"), "mine")
			os.Remove(n.record(id))
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.mustPull(r.Ref("app:1"))
			n.mustPull(r.Ref("other:1"))
			n.restart(func() { damage(n) })
			if _, err := n.Get(t.Context(), r.Ref("app:1")); !errdefs.IsNotFound(err) {
				t.Errorf("the damaged image: %v", err)
			}
			if _, err := n.Get(t.Context(), r.Ref("other:1")); err != nil {
				t.Errorf("the other image: %v", err)
			}
			aside, err := os.ReadDir(n.layout.Quarantine())
			if err != nil || len(aside) != 1 || !strings.Contains(n.log.String(), "set aside") {
				t.Errorf("set aside: %v, %v; log %s", aside, err, n.log)
			}
			n.mustPull(r.Ref("app:1"))
			n.wantClean()
			n.restart(nil)
			if _, err := n.Get(t.Context(), r.Ref("app:1")); err != nil {
				t.Errorf("pulled again: %v", err)
			}
		})
	}
}

// A lost record must not take the layers from under a running container.
func TestLostRecordSparesContainers(t *testing.T) {
	r := rt.New(t, rt.Options{})
	b := r.MustPush(t, "app:1", app("1"))
	n := newNode(t)
	n.mustPull(r.Ref("app:1"))
	use, release, err := n.Use(t.Context(), b.ID)
	if err != nil {
		t.Fatal(err)
	}
	release()
	n.run(use)
	n.restart(func() { write(t, n.record(digestOf(digestHex(b.ID))), "") })
	n.Collect()
	if got := len(n.entries("layers")); got != 2 {
		t.Fatalf("%d layers are left", got)
	}
	n.mustPull(r.Ref("app:1"))
	if n.unpacker.calls.Load() != 2 {
		t.Error("the container's layers were unpacked again")
	}
	n.run()
	n.wantClean()
}

// A kill between any two system calls of commit leaves one of these.
func TestKilledInCommit(t *testing.T) {
	r := rt.New(t, rt.Options{})
	b := r.MustPush(t, "app:1", app("1"))
	n := newNode(t)
	n.mustPull(r.Ref("app:1"))
	n.restart(func() { os.Remove(n.record(digestOf(digestHex(b.ID)))) }) // renamed, not recorded
	if images, _ := n.List(t.Context(), ""); len(images) != 0 {
		t.Errorf("images %v", images)
	}
	n.wantClean()
	if got := n.entries("layers"); len(got) != 0 {
		t.Errorf("layers %v", got)
	}
	n.mustPull(r.Ref("app:1"))
	n.wantClean()
}

func FuzzRecord(f *testing.F) {
	d := "sha256:" + strings.Repeat("a", 64)
	f.Add([]byte(`{"Version":1,"ID":"` + d + `","Manifest":"` + d + `","Tags":{"docker.io/library/a:b":1},"Digests":["docker.io/library/a@` + d + `"],"Layers":[{"Chain":"` + d + `"}]}`))
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"Version":1,"ID":"sha256:../x"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRecord(b)
		if err != nil {
			return
		}
		p := paths{spec.Layout{Root: "/r"}}
		for _, path := range append([]string{p.record(r.ID)}, p.layer(r.Manifest)) {
			if filepath.Clean(path) != path || !strings.HasPrefix(path, "/r/images/") {
				t.Fatalf("%q leads to %q", b, path)
			}
		}
		if again, err := parseRecord(r.encode()); err != nil || again.ID != r.ID {
			t.Fatalf("%q does not survive: %v", b, err)
		}
	})
}
