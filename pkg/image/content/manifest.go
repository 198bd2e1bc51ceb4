package content

import (
	"encoding/json"
	"mime"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

const (
	// MaxDocument bounds a manifest, an index or a config, in bytes.
	MaxDocument = 4 << 20
	// MaxLayers bounds the layers of an image; overlayfs itself stops at 500 (fs/overlayfs/params.h).
	MaxLayers = 500
	// maxBlob bounds what a manifest may say of a layer's size, in bytes: 1 TiB.
	maxBlob = 1 << 40
)

// The media types that are understood.
const (
	OCIManifest    = string(types.OCIManifestSchema1)
	OCIIndex       = string(types.OCIImageIndex)
	DockerManifest = string(types.DockerManifestSchema2)
	DockerList     = string(types.DockerManifestList)
)

// Compression of a layer, in the words of the unpack worker.
const (
	Gzip = "gzip"
	Zstd = "zstd"
	None = "none"
)

// compressions are the layers that can be unpacked. What is not here is refused: foreign (non-distributable), encrypted
// and native file-system layers among them.
var compressions = map[types.MediaType]string{
	types.OCILayer:                Gzip,
	types.DockerLayer:             Gzip,
	types.OCILayerZStd:            Zstd,
	types.OCIUncompressedLayer:    None,
	types.DockerUncompressedLayer: None,
	"application/vnd.docker.image.rootfs.diff.tar.zstd": Zstd,
}

// Descriptor is a checked reference to a blob: a valid digest and a size in bytes ≥ 0.
type Descriptor struct {
	MediaType string
	Digest    Digest
	Size      int64
}

// Layer is one layer of a Manifest.
type Layer struct {
	Descriptor
	Compression string // Gzip, Zstd or None
}

// Manifest names the config and the layers, lowest first, of one image for one platform.
type Manifest struct {
	Config Descriptor
	Layers []Layer
}

// Document is the outcome of Parse: exactly one of Manifest and Index is set.
type Document struct {
	MediaType string
	Digest    Digest
	Raw       []byte
	Manifest  *Manifest
	Index     *Index
}

// Parse reads a manifest or an index that was served with contentType. It refuses with errdefs.ErrInvalidArgument what
// is too large, what says two things (a member twice, a manifest that is an index too as in CVE-2021-41190, a media type
// other than the content type), and every kind that cannot be run.
func Parse(b []byte, contentType string) (Document, error) {
	doc := Document{Digest: FromBytes(b), Raw: b}
	if len(b) > MaxDocument {
		return doc, spec.Invalidf("the document has more than %d bytes", MaxDocument)
	}
	if err := oneReading(b, true); err != nil {
		return doc, err
	}
	var err error
	if doc.MediaType, err = kind(b, contentType); err != nil {
		return doc, err
	}
	switch doc.MediaType {
	case OCIManifest, DockerManifest:
		doc.Manifest, err = parseManifest(b)
	default:
		doc.Index, err = parseIndex(b)
	}
	return doc, err
}

// kind tells what a document is, and that all that speaks of it says the same.
func kind(b []byte, contentType string) (string, error) {
	var probe struct {
		SchemaVersion int             `json:"schemaVersion"`
		MediaType     string          `json:"mediaType"`
		Config        json.RawMessage `json:"config"`
		Layers        json.RawMessage `json:"layers"`
		Manifests     json.RawMessage `json:"manifests"`
		FSLayers      json.RawMessage `json:"fsLayers"`
	}
	if err := json.Unmarshal(b, &probe); err != nil {
		return "", spec.Invalidf("the document is not a manifest: %s", Clip(err.Error()))
	}
	if probe.SchemaVersion != 2 || probe.FSLayers != nil {
		return "", spec.Invalidf("the manifest has schema version %d: only version 2 (OCI, Docker schema 2) can be pulled",
			probe.SchemaVersion)
	}
	served, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return "", spec.Invalidf("the registry served the manifest with the content type %q", Clip(contentType))
	}
	isManifest, isIndex := probe.Config != nil || probe.Layers != nil, probe.Manifests != nil
	if isManifest && isIndex {
		return "", spec.Invalidf("the document is a manifest and an index at once")
	}
	if probe.MediaType != "" && probe.MediaType != served {
		return "", spec.Invalidf("the document says it is %q, the registry served it as %q", Clip(probe.MediaType), Clip(served))
	}
	if probe.MediaType == "" && served != OCIManifest && served != OCIIndex {
		return "", spec.Invalidf("the document served as %q does not say its media type", Clip(served))
	}
	switch {
	case isManifest && (served == OCIManifest || served == DockerManifest), isIndex && (served == OCIIndex || served == DockerList):
		return served, nil
	case isManifest || isIndex:
		return "", spec.Invalidf("the document's content is not what its media type %q says", Clip(served))
	}
	return "", spec.Invalidf("the document of type %q names neither layers nor manifests", Clip(served))
}

func parseManifest(b []byte) (*Manifest, error) {
	var raw v1.Manifest
	if err := json.Unmarshal(b, &raw); err != nil {
		return nil, spec.Invalidf("the manifest cannot be read: %s", Clip(err.Error()))
	}
	switch raw.Config.MediaType {
	case types.OCIConfigJSON, types.DockerConfigJSON:
	default:
		return nil, spec.Invalidf("the manifest's config is %q: this is not a container image", Clip(string(raw.Config.MediaType)))
	}
	config, err := descriptor(raw.Config, MaxDocument)
	if err != nil {
		return nil, err
	}
	if n := len(raw.Layers); n == 0 || n > MaxLayers {
		return nil, spec.Invalidf("the image has %d layers: between 1 and %d can be run", n, MaxLayers)
	}
	m := &Manifest{Config: config}
	for i, l := range raw.Layers {
		d, err := descriptor(l, maxBlob)
		if err != nil {
			return nil, spec.Invalidf("layer %d: %w", i, err)
		}
		c, ok := compressions[l.MediaType]
		if !ok {
			return nil, spec.Invalidf("layer %d is %q, which cannot be unpacked", i, Clip(string(l.MediaType)))
		}
		m.Layers = append(m.Layers, Layer{Descriptor: d, Compression: c})
	}
	return m, nil
}

func descriptor(d v1.Descriptor, largest int64) (Descriptor, error) {
	digest, err := ParseDigest(d.Digest.String())
	switch {
	case err != nil:
		return Descriptor{}, err
	case d.Size < 0 || d.Size > largest:
		return Descriptor{}, spec.Invalidf("blob %s has %d bytes: between 0 and %d are accepted", digest, d.Size, largest)
	case len(d.URLs) > 0:
		return Descriptor{}, spec.Invalidf("blob %s names URLs outside of the registry; foreign layers are not fetched", digest)
	}
	return Descriptor{MediaType: string(d.MediaType), Digest: digest, Size: d.Size}, nil
}
