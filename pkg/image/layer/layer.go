package layer

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Compressions of a blob.
const (
	Gzip = "gzip" // any number of members (RFC 1952)
	Zstd = "zstd" // any number of frames, windows up to 32 MiB (RFC 8878)
	None = "none"
)

// Limits of one layer. A zero field is the worker's own default.
type Limits struct {
	// Bytes is how many bytes the archive may have, and how many its files may have (default 64 GiB). The two differ
	// where files are sparse.
	Bytes int64
	// Entries is how many names the archive may have, and the layer (default 2,000,000).
	Entries int64
	// Ratio is how many times its compressed size the archive may be (default 300), beyond a first 256 MiB.
	Ratio int
	// Depth is how many components a path may have (default 256, at most 1,000).
	Depth int
}

// WithDefaults fills the fields that are zero.
func (l Limits) WithDefaults() Limits {
	if l.Bytes == 0 {
		l.Bytes = 64 << 30
	}
	if l.Entries == 0 {
		l.Entries = 2_000_000
	}
	if l.Ratio == 0 {
		l.Ratio = 300
	}
	if l.Depth == 0 {
		l.Depth = 256
	}
	return l
}

// maxDepth bounds the descriptors that a walk holds.
const maxDepth = 1000

// Request is one layer to unpack.
type Request struct {
	// Blob is the compressed layer, read from its current offset to its end.
	Blob        *os.File
	Compression string
	// DiffID is the digest of the uncompressed archive, "sha256:<64 hex digits>".
	DiffID string
	// Target is an existing, empty directory: the layer's, in overlayfs' form. It is owned by root, mode 0755 after that.
	Target string
	// Parents are the directories of the layers below, lowest first; at most 500, overlayfs' own limit.
	Parents []string
	Limits  Limits
}

// maxParents is OVL_MAX_STACK.
const maxParents = 500

func (r Request) check() error {
	switch {
	case r.Blob == nil:
		return spec.Invalidf("a layer to unpack needs a blob")
	case r.Compression != Gzip && r.Compression != Zstd && r.Compression != None:
		return spec.Invalidf("layer compression %q is not known: gzip, zstd and none are", r.Compression)
	case !isDigest(r.DiffID):
		return spec.Invalidf("diff id %q is not sha256: and 64 hex digits", r.DiffID)
	case len(r.Parents) > maxParents:
		return spec.Invalidf("a layer on %d others is too many: overlayfs takes %d", len(r.Parents), maxParents)
	case r.Limits.Bytes < 0 || r.Limits.Entries < 0 || r.Limits.Ratio < 0 || r.Limits.Depth < 0 || r.Limits.Depth > maxDepth:
		return spec.Invalidf("layer limits %+v are out of range", r.Limits)
	}
	for _, dir := range append([]string{r.Target}, r.Parents...) {
		if !filepath.IsAbs(dir) || strings.ContainsRune(dir, 0) || len(dir) >= 4096 {
			return spec.Invalidf("layer directory %q is not an absolute path", dir)
		}
	}
	return nil
}

func isDigest(s string) bool {
	hex, ok := strings.CutPrefix(s, "sha256:")
	if !ok || len(hex) != 64 {
		return false
	}
	return strings.Trim(hex, "0123456789abcdef") == ""
}

// Result says what a layer was.
type Result struct {
	Bytes   int64 // of all files in it, hard links once
	Entries int64 // names in the layer directory, whiteouts included
}

func (r Result) String() string { return fmt.Sprintf("%d bytes in %d entries", r.Bytes, r.Entries) }
