package content

import (
	"encoding/json"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Platform is what a node runs; Variant is "" but on arm.
type Platform struct{ OS, Architecture string }

// Index lists manifests by platform.
type Index struct{ entries []entry }

type entry struct {
	Descriptor
	platform *v1.Platform
}

// variants that run everywhere on an architecture, the best first. Others (amd64/v3) ask for a newer processor than the
// node may have, and are never chosen.
var variants = map[string][]string{
	"amd64": {"", "v1"},
	"arm64": {"", "v8"},
	"arm":   {"v7", "", "v6", "v5"},
}

func parseIndex(b []byte) (*Index, error) {
	var raw v1.IndexManifest
	if err := json.Unmarshal(b, &raw); err != nil {
		return nil, spec.Invalidf("the index cannot be read: %s", Clip(err.Error()))
	}
	x := &Index{}
	for i, m := range raw.Manifests {
		switch m.MediaType {
		case types.OCIManifestSchema1, types.DockerManifestSchema2, types.OCIImageIndex, types.DockerManifestList:
		default:
			continue // an index may list anything; what is no image is not ours
		}
		d, err := descriptor(m, MaxDocument)
		if err != nil {
			return nil, spec.Invalidf("manifest %d of the index: %w", i, err)
		}
		x.entries = append(x.entries, entry{Descriptor: d, platform: m.Platform})
	}
	return x, nil
}

// Select returns the manifest or index for p: an entry that names p, the most widely runnable variant first, else the
// only entry, if it names no platform. The error is errdefs.ErrNotFound.
func (x *Index) Select(p Platform) (Descriptor, error) {
	wanted := variants[p.Architecture]
	if wanted == nil {
		wanted = []string{""}
	}
	best, found := len(wanted), Descriptor{}
	for _, e := range x.entries {
		if e.platform == nil || e.platform.OS != p.OS || e.platform.Architecture != p.Architecture {
			continue
		}
		if i := slices.Index(wanted, e.platform.Variant); i >= 0 && i < best {
			best, found = i, e.Descriptor
		}
	}
	if best < len(wanted) {
		return found, nil
	}
	if len(x.entries) == 1 && x.entries[0].platform == nil {
		return x.entries[0].Descriptor, nil
	}
	return Descriptor{}, spec.Errorf(errdefs.ErrNotFound, "the image is not made for %s/%s: %d other platforms are in its index",
		p.OS, p.Architecture, len(x.entries))
}

// Lists tells whether the index names d, for any platform.
func (x *Index) Lists(d Digest) bool {
	return slices.ContainsFunc(x.entries, func(e entry) bool { return e.Digest == d })
}
