package registry

import (
	"regexp"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/runtimed/runtimed/pkg/image/content"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// maxReference bounds a reference, in bytes: a repository has at most 255, a tag 128, a digest 71.
const maxReference = 512

// DefaultTag is the tag of a reference that has neither tag nor digest.
const DefaultTag = "latest"

// hub is how a person writes the registry that go-containerregistry calls index.docker.io.
const hub = "docker.io"

var looksLikeID = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Reference names an image in a registry by tag or by digest. The zero value names none.
type Reference struct {
	host   string         // as requests need it: index.docker.io
	path   string         // of the repository in it
	tag    string         // "" with a digest
	digest content.Digest // "" with a tag
}

// ParseReference reads a reference as people write it: "busybox" is docker.io/library/busybox:latest. With tag and
// digest, the digest counts. What it refuses is errdefs.ErrInvalidArgument.
func ParseReference(s string) (Reference, error) {
	if s == "" || len(s) > maxReference {
		return Reference{}, spec.Invalidf("image reference %q is empty or has more than %d bytes", content.Clip(s), maxReference)
	}
	if looksLikeID.MatchString(s) {
		return Reference{}, spec.Invalidf("%q is an image id, not the name of an image in a registry", s)
	}
	if base, digest, ok := strings.Cut(s, "@"); ok {
		d, err := content.ParseDigest(digest)
		if err != nil {
			return Reference{}, spec.Invalidf("image reference %q: %w", content.Clip(s), err)
		}
		tag, err := name.NewTag(base, name.WeakValidation)
		if err != nil {
			return Reference{}, badName(s, err)
		}
		return checked(s, Reference{host: tag.RegistryStr(), path: tag.RepositoryStr(), digest: d})
	}
	tag, err := name.NewTag(s, name.WeakValidation, name.WithDefaultTag(DefaultTag))
	if err != nil {
		return Reference{}, badName(s, err)
	}
	return checked(s, Reference{host: tag.RegistryStr(), path: tag.RepositoryStr(), tag: tag.TagStr()})
}

func badName(s string, err error) error {
	return spec.Invalidf("image reference %q cannot be read: %s", content.Clip(s), content.Clip(err.Error()))
}

// The grammar of distribution's reference package. go-containerregistry is wider: it takes a path with empty or dotted
// components, which a proxy in front of a registry may resolve to something else.
var (
	reHost = regexp.MustCompile(`^(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?$`)
	rePath = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
	reTag  = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)
)

func checked(s string, r Reference) (Reference, error) {
	switch {
	case !reHost.MatchString(r.Host()):
		return Reference{}, spec.Invalidf("image reference %q: %q is not the name of a registry", content.Clip(s), content.Clip(r.Host()))
	case len(r.path) > 255 || !rePath.MatchString(r.path):
		return Reference{}, spec.Invalidf("image reference %q: %q is not the name of a repository (lower-case letters, digits, and single . _ - between them)",
			content.Clip(s), content.Clip(r.path))
	case r.digest == "" && !reTag.MatchString(r.tag):
		return Reference{}, spec.Invalidf("image reference %q: %q is not a tag", content.Clip(s), content.Clip(r.tag))
	}
	return r, nil
}

// Host is the registry's host and port as a person writes them, such as docker.io.
func (r Reference) Host() string { return display(r.host) }

func display(host string) string {
	if host == name.DefaultRegistry {
		return hub
	}
	return host
}

// Repository is the normalised repository, such as docker.io/library/busybox.
func (r Reference) Repository() string { return r.Host() + "/" + r.path }

// Tag is the tag, or "" where the reference has a digest.
func (r Reference) Tag() string { return r.tag }

// Digest is the digest, or "" where the reference has a tag.
func (r Reference) Digest() content.Digest { return r.digest }

// String is the normalised reference, such as docker.io/library/busybox:latest.
func (r Reference) String() string {
	if r.digest != "" {
		return r.Repository() + "@" + string(r.digest)
	}
	return r.Repository() + ":" + r.tag
}

// identifier is the last part of the manifest's URL.
func (r Reference) identifier() string {
	if r.digest != "" {
		return string(r.digest)
	}
	return r.tag
}
