package content

import (
	"encoding/json"
	"maps"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Config is an image's config: what it says about itself, and what proves its layers.
type Config struct {
	Image     spec.ImageConfig
	DiffIDs   []Digest // one a layer, lowest first
	CreatedAt int64    // ns; 0 where it does not say
}

// Bounds of what a config may say. A longer text is an attack or a mistake: it would be copied into every container
// record and every answer.
const (
	maxText = 64 << 10 // bytes of one string
	maxList = 4096     // strings of one list
)

// ParseConfig reads an image's config for platform p. It refuses with errdefs.ErrInvalidArgument an image of another
// platform, a number of diff ids other than layers, and texts beyond all measure. What it returns is checked for form
// alone: it is the image author's word, and to be checked where it is used.
func ParseConfig(b []byte, p Platform, layers int) (Config, error) {
	if len(b) > MaxDocument {
		return Config{}, spec.Invalidf("the image's config has more than %d bytes", MaxDocument)
	}
	if err := oneReading(b, false); err != nil {
		return Config{}, spec.Invalidf("the image's config: %w", err)
	}
	var raw v1.ConfigFile
	if err := json.Unmarshal(b, &raw); err != nil {
		return Config{}, spec.Invalidf("the image's config cannot be read: %s", Clip(err.Error()))
	}
	if raw.OS != p.OS || raw.Architecture != p.Architecture {
		return Config{}, spec.Invalidf("the image is made for %q/%q, this node runs %s/%s",
			Clip(raw.OS), Clip(raw.Architecture), p.OS, p.Architecture)
	}
	if raw.RootFS.Type != "layers" || len(raw.RootFS.DiffIDs) != layers {
		return Config{}, spec.Invalidf("the image's config names %d layers of type %q, its manifest %d",
			len(raw.RootFS.DiffIDs), Clip(raw.RootFS.Type), layers)
	}
	c := Config{Image: imageConfig(&raw)}
	for _, h := range raw.RootFS.DiffIDs {
		d, err := ParseDigest(h.String())
		if err != nil {
			return Config{}, spec.Invalidf("the image's diff id: %w", err)
		}
		c.DiffIDs = append(c.DiffIDs, d)
	}
	if t := raw.Created.Time; !t.IsZero() && t.Year() >= 1970 && t.Year() < 2262 {
		c.CreatedAt = t.UnixNano()
	}
	return c, bounded(c.Image)
}

func imageConfig(raw *v1.ConfigFile) spec.ImageConfig {
	return spec.ImageConfig{
		User:         raw.Config.User,
		Env:          raw.Config.Env,
		Entrypoint:   raw.Config.Entrypoint,
		Cmd:          raw.Config.Cmd,
		WorkingDir:   raw.Config.WorkingDir,
		Volumes:      slices.Sorted(maps.Keys(raw.Config.Volumes)),
		StopSignal:   raw.Config.StopSignal,
		Labels:       raw.Config.Labels,
		Architecture: raw.Architecture,
		OS:           raw.OS,
	}
}

func bounded(c spec.ImageConfig) error {
	lists := map[string][]string{
		"User": {c.User}, "WorkingDir": {c.WorkingDir}, "StopSignal": {c.StopSignal}, "Env": c.Env, "Volumes": c.Volumes,
		"Entrypoint": c.Entrypoint, "Cmd": c.Cmd, "Labels": append(slices.Collect(maps.Keys(c.Labels)), slices.Collect(maps.Values(c.Labels))...),
	}
	for _, field := range slices.Sorted(maps.Keys(lists)) {
		if n := len(lists[field]); n > 2*maxList {
			return spec.Invalidf("the image's config has %d texts in %s: at most %d are accepted", n, field, maxList)
		}
		for _, s := range lists[field] {
			if len(s) > maxText {
				return spec.Invalidf("the image's config has a text of %d bytes in %s: at most %d are accepted", len(s), field, maxText)
			}
		}
	}
	return nil
}
