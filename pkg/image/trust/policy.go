package trust

import (
	"slices"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/image/content"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Mode is the value of the configuration key trust.mode.
type Mode string

// Off accepts every image unseen. It has to be written out: the empty mode refuses.
const Off Mode = "off"

// Policy says which images are trusted. The zero Policy trusts none.
type Policy struct{ mode Mode }

// NewPolicy returns the policy of trust.mode. The empty mode is a valid policy that refuses every image; any other that
// is unknown is errdefs.ErrInvalidArgument.
func NewPolicy(mode string) (Policy, error) {
	switch Mode(mode) {
	case "", Off:
		return Policy{mode: Mode(mode)}, nil
	}
	return Policy{}, spec.Invalidf("trust.mode %q is unknown: this release knows \"off\" alone", mode)
}

// Off tells whether every image is accepted unseen; who starts or pulls says so aloud.
func (p Policy) Off() bool { return p.mode == Off }

// Admit refuses at once, with Verify's error, a reference that Verify would refuse whatever the registry says of it.
func (p Policy) Admit(reference string) error {
	if p.mode == Off {
		return nil
	}
	return spec.Errorf(errdefs.ErrUnknown, "SignatureValidationFailed: image %q: this node has no policy that says which "+
		"images to trust; set trust.mode = \"off\" in the configuration to run every image unverified", reference)
}

// Subject is what is to be judged: an image as it was asked for, and the documents that the registry answered with, the
// one that the reference names first, the manifest last.
type Subject struct {
	Repository string // as requested, such as docker.io/library/busybox, whatever mirror answered
	Reference  string
	Documents  []content.Document
}

// Verify judges a subject. The error's text starts with SignatureValidationFailed, the word by which a kubelet knows it
// (k8s.io/cri-api, pkg/errors), and its kind is errdefs.ErrUnknown, the code that it expects.
func (p Policy) Verify(s Subject) (Verified, error) {
	if err := s.chained(); err != nil {
		return Verified{}, err
	}
	if err := p.Admit(s.Reference); err != nil {
		return Verified{}, err
	}
	last := s.Documents[len(s.Documents)-1]
	return Verified{&verdict{repository: s.Repository, root: s.Documents[0].Digest, manifest: last.Digest, content: *last.Manifest}}, nil
}

// chained proves that each document is named by the one before it, so that trust in the first covers the last.
func (s Subject) chained() error {
	if len(s.Documents) == 0 {
		return spec.Errorf(errdefs.ErrUnknown, "SignatureValidationFailed: image %q: there is no manifest", s.Reference)
	}
	for i, d := range s.Documents {
		last := i == len(s.Documents)-1
		switch {
		case content.FromBytes(d.Raw) != d.Digest:
			return spec.Errorf(errdefs.ErrUnknown, "SignatureValidationFailed: document %s has other bytes", d.Digest)
		case last != (d.Manifest != nil) || last == (d.Index != nil):
			return spec.Errorf(errdefs.ErrUnknown, "SignatureValidationFailed: document %s does not lead to a manifest", d.Digest)
		case !last && !d.Index.Lists(s.Documents[i+1].Digest):
			return spec.Errorf(errdefs.ErrUnknown, "SignatureValidationFailed: index %s does not list %s", d.Digest, s.Documents[i+1].Digest)
		}
	}
	return nil
}

// Verified is the proof that a Policy accepted a manifest. Its zero value proves nothing.
type Verified struct{ v *verdict }

type verdict struct {
	repository string
	root       content.Digest
	manifest   content.Digest
	content    content.Manifest
}

// Valid tells a proof from a zero value.
func (v Verified) Valid() bool { return v.v != nil }

// Repository is the repository as it was requested. It panics on a zero value, as all accessors do: who holds one has
// not asked Valid.
func (v Verified) Repository() string { return v.v.repository }

// Root is the digest of what the reference named: an index or a manifest.
func (v Verified) Root() content.Digest { return v.v.root }

// ManifestDigest is the digest of the manifest.
func (v Verified) ManifestDigest() content.Digest { return v.v.manifest }

// Manifest is a copy of the accepted manifest.
func (v Verified) Manifest() content.Manifest {
	m := v.v.content
	m.Layers = slices.Clone(m.Layers)
	return m
}
