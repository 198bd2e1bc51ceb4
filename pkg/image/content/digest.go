package content

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

const algorithm = "sha256:"

// Digest is "sha256:" and 64 lower-case hexadecimal digits. A value of this type has been checked: it is safe in a path
// and in a URL. Make one with ParseDigest or FromBytes, never by conversion.
type Digest string

// ParseDigest accepts sha256 digests in their one canonical spelling and nothing else (OCI image-spec, descriptor.md).
func ParseDigest(s string) (Digest, error) {
	digits, ok := strings.CutPrefix(s, algorithm)
	if !ok || len(digits) != 2*sha256.Size || strings.Trim(digits, "0123456789abcdef") != "" {
		return "", spec.Invalidf("digest %q is not sha256: and 64 lower-case hex digits", Clip(s))
	}
	return Digest(s), nil
}

// FromBytes returns the digest of b.
func FromBytes(b []byte) Digest {
	sum := sha256.Sum256(b)
	return Digest(algorithm + hex.EncodeToString(sum[:]))
}

// Hex is the digest without its algorithm.
func (d Digest) Hex() string { return strings.TrimPrefix(string(d), algorithm) }

// ChainIDs returns the chain id of each layer, lowest first (OCI image-spec, config.md, "Layer ChainID").
func ChainIDs(diffIDs []Digest) []Digest {
	chain := make([]Digest, len(diffIDs))
	for i, d := range diffIDs {
		if i == 0 {
			chain[i] = d
			continue
		}
		chain[i] = FromBytes([]byte(string(chain[i-1]) + " " + string(d)))
	}
	return chain
}

// Verifier is a writer that proves a digest and a size. A write beyond the size is refused at once, so that a stream
// without end costs no more than what was promised.
type Verifier struct {
	want Descriptor
	sum  hash.Hash
	n    int64
}

// NewVerifier returns a Verifier for d's digest and size in bytes.
func NewVerifier(d Descriptor) *Verifier { return &Verifier{want: d, sum: sha256.New()} }

func (v *Verifier) Write(p []byte) (int, error) {
	if int64(len(p)) > v.want.Size-v.n {
		return 0, spec.Errorf(errdefs.ErrDataLoss, "blob %s is longer than the %d bytes that the manifest says",
			v.want.Digest, v.want.Size)
	}
	v.n += int64(len(p))
	return v.sum.Write(p)
}

// Written is the number of bytes so far.
func (v *Verifier) Written() int64 { return v.n }

// Verify refuses with errdefs.ErrDataLoss what is shorter or other than what was promised.
func (v *Verifier) Verify() error {
	if v.n != v.want.Size {
		return spec.Errorf(errdefs.ErrDataLoss, "blob %s ended after %d of %d bytes", v.want.Digest, v.n, v.want.Size)
	}
	if got := Digest(algorithm + hex.EncodeToString(v.sum.Sum(nil))); got != v.want.Digest {
		return spec.Errorf(errdefs.ErrDataLoss, "blob %s has other bytes: their digest is %s", v.want.Digest, got)
	}
	return nil
}

// Clip shortens a foreign string for an error text, to 120 bytes.
func Clip(s string) string {
	const most = 120
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
