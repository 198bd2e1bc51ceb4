package image

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/runtimed/runtimed/integration/registrytest"
)

var programs = Programs{Busybox: []byte("busybox"), Applets: []string{"busybox", "ls", "sh", "top"}, Standin: []byte("standin")}

// Whatever is written can be pulled again under each of its names, whole.
func TestEveryNameIsServed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "layout")
	images := All(programs)
	if err := Write(dir, images); err != nil {
		t.Fatal(err)
	}
	r := registrytest.New(t, registrytest.Options{})
	n, err := Push(dir, r)
	if err != nil {
		t.Fatal(err)
	}
	names, forms := 0, map[string]int{}
	for _, i := range images {
		for _, name := range i.Names {
			names++
			repo, tag, tagged := strings.Cut(name, ":")
			if !tagged {
				b, err := i.Image.Build()
				if err != nil {
					t.Fatal(err)
				}
				tag = b.Digest
			}
			forms[fetch(t, r, repo, tag)]++
		}
	}
	if n != names || names < 21 {
		t.Errorf("%d names of %d are served", n, names)
	}
	for _, form := range []string{ociIndex, dockerList, "application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"} {
		if forms[form] == 0 {
			t.Errorf("no image is kept as %s: %v", form, forms)
		}
	}
}

// fetch gets a manifest or an index with everything below it, and returns its media type.
func fetch(t *testing.T, r *registrytest.Registry, repo, tag string) string {
	t.Helper()
	get := func(path string) (string, []byte) {
		t.Helper()
		res, err := http.Get(r.URL + "/v2/" + repo + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Fatalf("%s%s: %s", repo, path, res.Status)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.Header.Get("Content-Type"), body
	}
	mediaType, body := get("/manifests/" + tag)
	var d document
	if err := json.Unmarshal(body, &d); err != nil {
		t.Fatalf("%s: %v", repo, err)
	}
	for _, m := range d.Manifests {
		fetch(t, r, repo, m.Digest)
	}
	for _, l := range d.Layers {
		get("/blobs/" + l.Digest)
	}
	return mediaType
}

// The digest is compiled into critest: a change of it makes every cached critest stale.
func TestDigest(t *testing.T) {
	b, err := Digested().Build()
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := Digested().Build(); again.Digest != b.Digest {
		t.Error("the digest differs from one build to the next")
	}
	const want = "sha256:"
	if !strings.HasPrefix(b.Digest, want) || b.Digest != Digest() {
		t.Errorf("%s", b.Digest)
	}
	i := slices.IndexFunc(All(programs), func(n Named) bool { return n.Names[0] == digested })
	if served, _ := All(programs)[i].Image.Build(); served.Digest != Digest() {
		t.Errorf("%s is served, %s is asked for", served.Digest, Digest())
	}
}

func TestADamagedLayout(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "layout")
	r := registrytest.New(t, registrytest.Options{})
	if _, err := Push(dir, r); err == nil {
		t.Error("a layout that is not there")
	}
	if err := Write(dir, All(programs)); err != nil {
		t.Fatal(err)
	}
	blobs, err := filepath.Glob(filepath.Join(dir, "blobs/sha256/*"))
	if err != nil || len(blobs) < 20 {
		t.Fatalf("%d blobs, %v", len(blobs), err)
	}
	for _, b := range blobs {
		if err := os.Remove(b); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Push(dir, r); err == nil {
		t.Error("a layout without blobs")
	}
}
