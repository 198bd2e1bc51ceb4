package registrytest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/klauspost/compress/zstd"
)

// Compression of a layer.
const (
	Gzip = "gzip" // the default
	Zstd = "zstd"
	None = "none"
)

// File is an entry of a layer. Its type is Type, or else: a directory with a name that ends with a slash, a symbolic link
// with a Link, a regular file.
type File struct {
	Name         string
	Type         byte // tar's type flag
	Mode         int64
	UID, GID     int
	Body         []byte
	Link         string
	Major, Minor int64
	Xattrs       map[string]string
}

// Layer is a layer: from Files, or, when Tar is set, those very bytes.
type Layer struct {
	Files       []File
	Tar         []byte
	Compression string // "" is the image's
}

// Config is the part of an image's config that says how to run it.
type Config struct {
	User       string              `json:",omitempty"`
	Env        []string            `json:",omitempty"`
	Entrypoint []string            `json:",omitempty"`
	Cmd        []string            `json:",omitempty"`
	WorkingDir string              `json:",omitempty"`
	Volumes    map[string]struct{} `json:",omitempty"`
	StopSignal string              `json:",omitempty"`
	Labels     map[string]string   `json:",omitempty"`
}

// Image is an image to build.
type Image struct {
	Config       Config
	Layers       []Layer
	Compression  string // Gzip, Zstd or None
	Docker       bool   // Docker schema 2 in place of OCI
	OS           string // default linux
	Architecture string // default this build's
	Created      string // RFC 3339; "" says nothing
}

// Built is an image in the form in which a registry holds it.
type Built struct {
	MediaType string
	Manifest  []byte
	Config    []byte
	Blobs     map[string][]byte // by digest; the config is one of them
	Layers    []string          // digests of the layers, lowest first
	DiffIDs   []string
	ID        string // digest of the config
	Digest    string // of the manifest
}

// Digest is the sha256 digest of b.
func Digest(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }

// Descriptor is the JSON form of a reference to a blob.
type Descriptor struct {
	MediaType string         `json:"mediaType"`
	Size      int            `json:"size"`
	Digest    string         `json:"digest"`
	URLs      []string       `json:"urls,omitempty"`
	Platform  map[string]any `json:"platform,omitempty"`
}

// Build makes the blobs and the manifest.
func (i Image) Build() (Built, error) {
	b := Built{Blobs: map[string][]byte{}, MediaType: "application/vnd.oci.image.manifest.v1+json"}
	configType := "application/vnd.oci.image.config.v1+json"
	if i.Docker {
		b.MediaType, configType = "application/vnd.docker.distribution.manifest.v2+json", "application/vnd.docker.container.image.v1+json"
	}
	layers := []Descriptor{}
	for _, l := range i.Layers {
		raw, err := l.tar()
		if err != nil {
			return b, err
		}
		how := l.Compression
		if how == "" {
			how = i.Compression
		}
		blob, err := compress(raw, how)
		if err != nil {
			return b, err
		}
		d := Descriptor{MediaType: layerType(how, i.Docker), Size: len(blob), Digest: Digest(blob)}
		b.Blobs[d.Digest] = blob
		b.Layers, b.DiffIDs, layers = append(b.Layers, d.Digest), append(b.DiffIDs, Digest(raw)), append(layers, d)
	}
	var err error
	if b.Config, err = json.Marshal(i.configFile(b.DiffIDs)); err != nil {
		return b, err
	}
	b.ID = Digest(b.Config)
	b.Blobs[b.ID] = b.Config
	b.Manifest, err = json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": b.MediaType, "layers": layers,
		"config": Descriptor{MediaType: configType, Size: len(b.Config), Digest: b.ID},
	})
	b.Digest = Digest(b.Manifest)
	return b, err
}

func (i Image) configFile(diffIDs []string) map[string]any {
	system, arch := i.OS, i.Architecture
	if system == "" {
		system = "linux"
	}
	if arch == "" {
		arch = runtime.GOARCH
	}
	f := map[string]any{
		"os": system, "architecture": arch, "config": i.Config,
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs},
	}
	if i.Created != "" {
		f["created"] = i.Created
	}
	return f
}

func layerType(how string, docker bool) string {
	if docker {
		return map[string]string{
			Zstd: "application/vnd.docker.image.rootfs.diff.tar.zstd", None: "application/vnd.docker.image.rootfs.diff.tar",
			Gzip: "application/vnd.docker.image.rootfs.diff.tar.gzip", "": "application/vnd.docker.image.rootfs.diff.tar.gzip",
		}[how]
	}
	return map[string]string{
		Zstd: "application/vnd.oci.image.layer.v1.tar+zstd", None: "application/vnd.oci.image.layer.v1.tar",
		Gzip: "application/vnd.oci.image.layer.v1.tar+gzip", "": "application/vnd.oci.image.layer.v1.tar+gzip",
	}[how]
}

func compress(raw []byte, how string) ([]byte, error) {
	var out bytes.Buffer
	switch how {
	case None:
		return raw, nil
	case Zstd:
		w, err := zstd.NewWriter(&out)
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(raw); err != nil {
			return nil, err
		}
		err = w.Close()
		return out.Bytes(), err
	case Gzip, "":
		w := gzip.NewWriter(&out)
		if _, err := w.Write(raw); err != nil {
			return nil, err
		}
		err := w.Close()
		return out.Bytes(), err
	}
	return nil, fmt.Errorf("compression %q is unknown", how)
}

func (l Layer) tar() ([]byte, error) {
	if l.Tar != nil {
		return l.Tar, nil
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range l.Files {
		h := f.header()
		if err := w.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		if _, err := w.Write(f.Body); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	err := w.Close()
	return out.Bytes(), err
}

func (f File) header() *tar.Header {
	h := &tar.Header{
		Name: f.Name, Typeflag: f.Type, Mode: f.Mode, Uid: f.UID, Gid: f.GID, Size: int64(len(f.Body)), Linkname: f.Link,
		Devmajor: f.Major, Devminor: f.Minor, Format: tar.FormatPAX,
	}
	for k, v := range f.Xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords["SCHILY.xattr."+k] = v
	}
	if h.Typeflag == 0 {
		switch {
		case len(f.Name) > 0 && f.Name[len(f.Name)-1] == '/':
			h.Typeflag = tar.TypeDir
		case f.Link != "":
			h.Typeflag = tar.TypeSymlink
		default:
			h.Typeflag = tar.TypeReg
		}
	}
	return h
}

// Dir makes a layer of a directory's content: regular files, directories and symbolic links, with mode and owner.
func Dir(root string) (Layer, error) {
	var l Layer
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		f, err := fileOf(root, path, d)
		l.Files = append(l.Files, f)
		return err
	})
	return l, err
}

func fileOf(root, path string, d fs.DirEntry) (File, error) {
	info, err := d.Info()
	if err != nil {
		return File{}, err
	}
	name, err := filepath.Rel(root, path)
	if err != nil {
		return File{}, err
	}
	st := info.Sys().(*syscall.Stat_t)
	f := File{Name: name, Mode: int64(st.Mode & 0o7777), UID: int(st.Uid), GID: int(st.Gid)}
	switch {
	case info.IsDir():
		f.Name += "/"
	case info.Mode()&fs.ModeSymlink != 0:
		f.Link, err = os.Readlink(path)
	case info.Mode().IsRegular():
		f.Body, err = os.ReadFile(path)
	default:
		err = fmt.Errorf("%s: only files, directories and symbolic links can be put into a layer", path)
	}
	return f, err
}
