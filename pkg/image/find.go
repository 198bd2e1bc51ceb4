package image

import (
	"context"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/runtimed/runtimed/pkg/image/content"
	"github.com/runtimed/runtimed/pkg/image/registry"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// minPrefix is the shortest id prefix, in hex digits, that finds an image. crictl and docker print 13 and 12; with fewer,
// a word such as "cafe" that is meant as a name would find, or remove, an image by chance.
const minPrefix = 12

var rePrefix = regexp.MustCompile(`^(?:sha256:)?([0-9a-f]{12,64})$`)

// List returns the images that a reference finds, all for "". A name with neither tag nor digest finds every image of its
// repository; else the reference is Get's.
func (s *Store) List(_ context.Context, ref string) ([]spec.Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []*image
	if ref == "" {
		found = slices.Collect(maps.Values(s.images))
	} else {
		img, err := s.find(ref)
		if err != nil {
			return nil, err
		}
		if img != nil {
			found = append(found, img)
		}
		found = append(found, s.inRepository(ref, img)...)
	}
	views := make([]spec.Image, 0, len(found))
	for _, img := range found {
		views = append(views, img.view())
	}
	slices.SortFunc(views, func(a, b spec.Image) int {
		return strings.Compare(strings.Join(a.RepoTags, " ")+a.ID, strings.Join(b.RepoTags, " ")+b.ID)
	})
	return views, nil
}

// inRepository returns the images with a tag or digest in ref's repository, where ref names nothing narrower.
func (s *Store) inRepository(ref string, but *image) []*image {
	r, err := registry.ParseReference(ref)
	if err != nil || r.Digest() != "" || strings.HasSuffix(ref, ":"+r.Tag()) {
		return nil
	}
	var found []*image
	for _, img := range s.images {
		in := func(name string) bool {
			return strings.HasPrefix(name, r.Repository()+":") || strings.HasPrefix(name, r.Repository()+"@")
		}
		if img != but && (slices.ContainsFunc(slices.Collect(maps.Keys(img.Tags)), in) || slices.ContainsFunc(img.Digests, in)) {
			found = append(found, img)
		}
	}
	return found
}

// Get finds an image by tag, by digest reference, by short name (busybox), by id, or by a unique id prefix of at least 12
// hex digits, with or without "sha256:". The error is errdefs.ErrNotFound where there is none, and ErrInvalidArgument
// for what is no reference, or an ambiguous prefix.
func (s *Store) Get(_ context.Context, ref string) (spec.Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	img, err := s.find(ref)
	if err != nil {
		return spec.Image{}, err
	}
	if img == nil {
		return spec.Image{}, notFound(ref)
	}
	return img.view(), nil
}

func notFound(ref string) error {
	return spec.NotFoundf("image %q is not on this node: pull it first", content.Clip(ref))
}

// find returns nil where there is no such image. mu is held.
func (s *Store) find(ref string) (*image, error) {
	prefix := rePrefix.FindStringSubmatch(ref)
	if prefix != nil && len(prefix[1]) == 64 {
		return s.images[content.Digest("sha256:"+prefix[1])], nil
	}
	if !strings.HasPrefix(ref, "sha256:") {
		r, err := registry.ParseReference(ref)
		if err != nil && prefix == nil {
			return nil, err
		}
		if err == nil {
			if img := s.byName(r); img != nil {
				return img, nil
			}
		}
	}
	if prefix == nil {
		if strings.HasPrefix(ref, "sha256:") {
			return nil, spec.Invalidf("image id %q is not sha256: and %d to 64 lower-case hex digits", content.Clip(ref), minPrefix)
		}
		return nil, nil
	}
	var found *image
	for id, img := range s.images {
		if !strings.HasPrefix(id.Hex(), prefix[1]) {
			continue
		}
		if found != nil {
			return nil, spec.Invalidf("image id %q is the beginning of more than one id", ref)
		}
		found = img
	}
	return found, nil
}

// byName finds an image by a normalised reference. mu is held.
func (s *Store) byName(r registry.Reference) *image {
	name := r.String()
	for _, img := range s.images {
		if _, ok := img.Tags[name]; ok || slices.Contains(img.Digests, name) {
			return img
		}
	}
	return nil
}

// FsInfo is the room that the store takes: the images' layers, each once, with manifests, configs and records, and its own
// directories. It walks nothing; what is being fetched or deleted is not in it.
func (s *Store) FsInfo(context.Context) (spec.FsInfo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	info := spec.FsInfo{Mountpoint: s.opts.Layout.Images(), Timestamp: s.opts.Now().UnixNano()}
	take := func(bytes uint64) { info.UsedBytes, info.Inodes = info.UsedBytes+bytes, info.Inodes+1 }
	for _, dir := range []string{"", "records", "blobs", "blobs/sha256", "layers", "ingest", "staging", "trash"} {
		take(content.Use(s.sub(dir)))
	}
	seen := map[content.Digest]bool{}
	for _, img := range s.images {
		take(content.Use(s.record(img.ID)))
		for _, l := range img.Layers {
			if !seen[l.Chain] {
				seen[l.Chain] = true
				info.UsedBytes, info.Inodes = info.UsedBytes+l.Bytes, info.Inodes+l.Files
			}
		}
		for _, d := range []content.Digest{img.ID, img.Manifest} {
			if !seen[d] {
				seen[d] = true
				take(s.blobs.Use(d))
			}
		}
	}
	return info, nil
}
