package registrytest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
)

// Push builds an image and puts it at name, such as "app:1" or "team/app:1", past all authentication.
func (r *Registry) Push(name string, i Image) (Built, error) {
	b, err := i.Build()
	if err != nil {
		return b, err
	}
	return b, r.PushBuilt(name, b)
}

// MustPush is Push in a test.
func (r *Registry) MustPush(t TB, name string, i Image) Built {
	t.Helper()
	b, err := r.Push(name, i)
	if err != nil {
		t.Fatalf("push %s: %v", name, err)
	}
	return b
}

// PushBuilt puts what is built already. A name without a tag gets the manifest's digest.
func (r *Registry) PushBuilt(name string, b Built) error {
	repo, tag := split(name, b.Digest)
	for digest, blob := range b.Blobs {
		if err := r.put(http.MethodPost, "/v2/"+repo+"/blobs/uploads/?digest="+digest, "application/octet-stream", blob); err != nil {
			return err
		}
	}
	return r.put(http.MethodPut, "/v2/"+repo+"/manifests/"+tag, b.MediaType, b.Manifest)
}

// PutManifest puts any document at a tag or digest.
func (r *Registry) PutManifest(name, mediaType string, body []byte) error {
	repo, tag := split(name, Digest(body))
	return r.put(http.MethodPut, "/v2/"+repo+"/manifests/"+tag, mediaType, body)
}

// Entry is one image of an index.
type Entry struct {
	Built                     Built
	OS, Architecture, Variant string // "" is linux and this build's; "-" leaves the platform out
}

// PushIndex puts an index (or a Docker manifest list) at name; its images are put too. It returns the index's digest.
func (r *Registry) PushIndex(name string, docker bool, entries ...Entry) (string, error) {
	repo, _ := split(name, "")
	mediaType := "application/vnd.oci.image.index.v1+json"
	if docker {
		mediaType = "application/vnd.docker.distribution.manifest.list.v2+json"
	}
	list := []Descriptor{}
	for _, e := range entries {
		if err := r.PushBuilt(repo, e.Built); err != nil {
			return "", err
		}
		list = append(list, Descriptor{MediaType: e.Built.MediaType, Size: len(e.Built.Manifest), Digest: e.Built.Digest, Platform: e.platform()})
	}
	body, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": mediaType, "manifests": list})
	if err != nil {
		return "", err
	}
	return Digest(body), r.PutManifest(name, mediaType, body)
}

func (e Entry) platform() map[string]any {
	if e.OS == "-" {
		return nil
	}
	p := map[string]any{"os": "linux", "architecture": runtime.GOARCH}
	if e.OS != "" {
		p["os"] = e.OS
	}
	if e.Architecture != "" {
		p["architecture"] = e.Architecture
	}
	if e.Variant != "" {
		p["variant"] = e.Variant
	}
	return p
}

func split(name, otherwise string) (repo, tag string) {
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		return name[:i], name[i+1:]
	}
	if otherwise == "" {
		otherwise = "latest"
	}
	return name, otherwise
}

func (r *Registry) put(method, path, mediaType string, body []byte) error {
	q := httptest.NewRequest(method, path, bytes.NewReader(body))
	q.Header.Set("Content-Type", mediaType)
	w := httptest.NewRecorder()
	r.inner.ServeHTTP(w, q)
	if w.Code/100 != 2 {
		return fmt.Errorf("%s %s: %d %s", method, path, w.Code, strings.TrimSpace(w.Body.String()))
	}
	return nil
}
