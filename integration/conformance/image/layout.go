package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/runtimed/runtimed/integration/registrytest"
)

const (
	ociIndex   = "application/vnd.oci.image.index.v1+json"
	dockerList = "application/vnd.docker.distribution.manifest.list.v2+json"
	refName    = "org.opencontainers.image.ref.name"
)

// descriptor is a reference to a document or blob of the layout.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Size        int               `json:"size"`
	Digest      string            `json:"digest"`
	Platform    map[string]string `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// document is a manifest or an index, as far as it points to others.
type document struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        *descriptor  `json:"config,omitempty"`
	Layers        []descriptor `json:"layers,omitempty"`
	Manifests     []descriptor `json:"manifests,omitempty"`
}

// Write makes an OCI layout of the images in a directory that is not there yet.
func Write(dir string, images []Named) error {
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
		return err
	}
	top := document{SchemaVersion: 2, MediaType: ociIndex}
	for _, n := range images {
		d, err := n.write(dir)
		if err != nil {
			return fmt.Errorf("%s: %w", n.Names[0], err)
		}
		for _, name := range n.Names {
			d.Annotations = map[string]string{refName: name}
			top.Manifests = append(top.Manifests, d)
		}
	}
	index, err := json.MarshalIndent(top, "", " ")
	return errors.Join(err,
		os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion": "1.0.0"}`+"\n"), 0o644),
		os.WriteFile(filepath.Join(dir, "index.json"), index, 0o644))
}

// write writes an image's blobs, and returns a reference to its manifest or index.
func (n Named) write(dir string) (descriptor, error) {
	own, err := build(dir, n.Image, nil)
	if err != nil || n.Form == Manifest {
		return own, err
	}
	foreign := n.Image
	foreign.Architecture = "s390x"
	other, err := build(dir, foreign, map[string]string{"os": "linux", "architecture": "s390x"})
	if err != nil {
		return own, err
	}
	own.Platform = map[string]string{"os": "linux", "architecture": runtime.GOARCH}
	d := document{SchemaVersion: 2, MediaType: ociIndex, Manifests: []descriptor{other, own}}
	if n.Form == List {
		d.MediaType = dockerList
	}
	body, err := json.Marshal(d)
	if err != nil {
		return own, err
	}
	return descriptor{MediaType: d.MediaType, Size: len(body), Digest: registrytest.Digest(body)}, put(dir, body)
}

func build(dir string, i registrytest.Image, platform map[string]string) (descriptor, error) {
	b, err := i.Build()
	if err != nil {
		return descriptor{}, err
	}
	for _, blob := range b.Blobs {
		if err := put(dir, blob); err != nil {
			return descriptor{}, err
		}
	}
	return descriptor{MediaType: b.MediaType, Size: len(b.Manifest), Digest: b.Digest, Platform: platform}, put(dir, b.Manifest)
}

func put(dir string, body []byte) error {
	return os.WriteFile(blob(dir, registrytest.Digest(body)), body, 0o644)
}

func blob(dir, digest string) string {
	return filepath.Join(dir, "blobs", "sha256", strings.TrimPrefix(digest, "sha256:"))
}

// Push puts every image of a layout into a registry, and returns how many names that were.
func Push(dir string, r *registrytest.Registry) (int, error) {
	text, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		return 0, err
	}
	var top document
	if err := json.Unmarshal(text, &top); err != nil {
		return 0, fmt.Errorf("%s/index.json: %w", dir, err)
	}
	for _, d := range top.Manifests {
		if err := push(dir, d.Annotations[refName], d, r); err != nil {
			return 0, fmt.Errorf("%s: %w", d.Annotations[refName], err)
		}
	}
	return len(top.Manifests), nil
}

// push puts what a document points to, and then the document, at a name: of a repository alone, it is put by its digest.
func push(dir, name string, d descriptor, r *registrytest.Registry) error {
	body, err := os.ReadFile(blob(dir, d.Digest))
	if err != nil {
		return err
	}
	var doc document
	if err := json.Unmarshal(body, &doc); err != nil {
		return err
	}
	repo, _, _ := strings.Cut(name, ":")
	for _, m := range doc.Manifests {
		if err := push(dir, repo, m, r); err != nil {
			return err
		}
	}
	if doc.Config == nil {
		return r.PutManifest(name, d.MediaType, body)
	}
	b := registrytest.Built{MediaType: d.MediaType, Manifest: body, Digest: d.Digest, Blobs: map[string][]byte{}}
	for _, part := range append(doc.Layers, *doc.Config) {
		if b.Blobs[part.Digest], err = os.ReadFile(blob(dir, part.Digest)); err != nil {
			return err
		}
	}
	return r.PushBuilt(name, b)
}
