package image

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/runtimed/runtimed/pkg/image/content"
	"github.com/runtimed/runtimed/pkg/image/registry"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// maxRecord bounds a record file, in bytes.
const maxRecord = 4 << 20

// record is records/<hex>.json. A record in memory is never changed: it is replaced.
type record struct {
	Version  int
	ID       content.Digest // of the config
	Manifest content.Digest
	// Tags are normalised references, each with the number of the pull that set it: where two images claim one tag after a
	// power cut, the higher number is right.
	Tags     map[string]uint64
	Digests  []string // repository@digest, oldest first
	Layers   []layerUse
	PulledAt int64 // ns
}

// layerUse is one layer and the room it takes.
type layerUse struct {
	Chain content.Digest
	Bytes uint64
	Files uint64 // inodes
}

func (r record) clone() record {
	r.Tags = maps.Clone(r.Tags)
	if r.Tags == nil {
		r.Tags = map[string]uint64{}
	}
	r.Digests = slices.Clone(r.Digests)
	return r
}

func (r record) chains() []content.Digest {
	chains := make([]content.Digest, len(r.Layers))
	for i, l := range r.Layers {
		chains[i] = l.Chain
	}
	return chains
}

// image is a record with the config that it stands on.
type image struct {
	record
	config content.Config
}

func (i *image) view() spec.Image {
	v := spec.Image{
		ID:          string(i.ID),
		RepoTags:    slices.Sorted(maps.Keys(i.Tags)),
		RepoDigests: slices.Clone(i.Digests),
		Config:      i.config.Image,
		CreatedAt:   i.config.CreatedAt,
	}
	for _, l := range i.Layers {
		v.Size += l.Bytes
		v.Layers = append(v.Layers, string(l.Chain))
	}
	for _, d := range i.config.DiffIDs {
		v.DiffIDs = append(v.DiffIDs, string(d))
	}
	return v
}

// reference returns repository@digest of the repository that the user named, else of the last that was pulled, else the
// image's id.
func (i *image) reference(asked string) string {
	if r, err := registry.ParseReference(asked); err == nil {
		for _, d := range slices.Backward(i.Digests) {
			if strings.HasPrefix(d, r.Repository()+"@") {
				return d
			}
		}
	}
	if n := len(i.Digests); n > 0 {
		return i.Digests[n-1]
	}
	return string(i.ID)
}

// paths of the store.
type paths struct{ layout spec.Layout }

func (p paths) sub(names ...string) string {
	return filepath.Join(append([]string{p.layout.Images()}, names...)...)
}

func (p paths) record(id content.Digest) string { return p.sub("records", id.Hex()+".json") }
func (p paths) layer(chain content.Digest) string {
	return filepath.Join(p.layout.Layers(), spec.LayerDir(string(chain)))
}

// save writes a record; when it returns nil the record outlives a power cut.
func (p paths) save(r record) error {
	return content.WriteFile(p.record(r.ID), r.encode(), true)
}

func (r record) encode() []byte {
	b, err := json.Marshal(r)
	if err != nil {
		panic(err) // strings and numbers alone
	}
	return append(b, '\n')
}

// load reads a record and proves all that it stands on: its own form, the config's bytes, the chain ids that follow from
// them, and that the layers are there.
func (s *Store) load(file string) (*image, error) {
	b, err := content.ReadFile(filepath.Join(s.sub("records"), file), maxRecord)
	if err != nil {
		return nil, err
	}
	r, err := parseRecord(b)
	if err != nil {
		return nil, err
	}
	if file != filepath.Base(s.record(r.ID)) {
		return nil, fmt.Errorf("it says that it is %s", r.ID)
	}
	raw, err := s.blobs.Get(r.ID)
	if err != nil {
		return nil, fmt.Errorf("its config: %w", err)
	}
	if _, err := s.blobs.Get(r.Manifest); err != nil {
		return nil, fmt.Errorf("its manifest: %w", err)
	}
	config, err := content.ParseConfig(raw, s.opts.Registry.Platform(), len(r.Layers))
	if err != nil {
		return nil, err
	}
	if !slices.Equal(content.ChainIDs(config.DiffIDs), r.chains()) {
		return nil, fmt.Errorf("its layers are not the config's")
	}
	for _, chain := range r.chains() {
		if st, err := os.Lstat(s.layer(chain)); err != nil || !st.IsDir() {
			return nil, fmt.Errorf("layer %s is missing", chain)
		}
	}
	return &image{record: r, config: config}, nil
}

// parseRecord reads a record and checks its form: whatever is in it may become part of a path.
func parseRecord(b []byte) (record, error) {
	var r record
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("it is not a record: %w", err)
	}
	if r.Version != spec.RecordVersion {
		return r, fmt.Errorf("it has version %d, this release knows %d", r.Version, spec.RecordVersion)
	}
	for _, d := range append(r.chains(), r.ID, r.Manifest) {
		if _, err := content.ParseDigest(string(d)); err != nil {
			return r, err
		}
	}
	for tag := range r.Tags {
		if ref, err := registry.ParseReference(tag); err != nil || ref.String() != tag || ref.Tag() == "" {
			return r, fmt.Errorf("it has the tag %q", content.Clip(tag))
		}
	}
	for _, d := range r.Digests {
		if ref, err := registry.ParseReference(d); err != nil || ref.String() != d || ref.Digest() == "" {
			return r, fmt.Errorf("it has the digest %q", content.Clip(d))
		}
	}
	if r.Tags == nil {
		r.Tags = map[string]uint64{}
	}
	return r, nil
}
