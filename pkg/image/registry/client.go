package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/runtimed/runtimed/pkg/image/content"
	"github.com/runtimed/runtimed/pkg/image/trust"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Client fetches images. It is safe for use by several goroutines.
type Client struct{ config Config }

// New returns a client, or errdefs.ErrInvalidArgument for a configuration that cannot work.
func New(c Config) (*Client, error) {
	c.setDefaults()
	if err := c.check(); err != nil {
		return nil, err
	}
	return &Client{config: c}, nil
}

// Platform is what the client chooses from an index.
func (c *Client) Platform() content.Platform { return c.config.Platform }

// maxIndexes bounds how many indexes may lie between a reference and its manifest.
const maxIndexes = 2

// Image is a reference that was resolved to a manifest, which nobody has judged yet.
type Image struct {
	Reference Reference
	// Documents are what the registry answered: the one that the reference names first, the manifest last.
	Documents []content.Document

	client *Client
	mu     sync.Mutex
	places []*place // the one that answered first, then the others, to fall back to
}

// place is an endpoint, and the session with it once there is one.
type place struct {
	endpoint
	session *session
}

// Subject is what a trust.Policy judges.
func (i *Image) Subject() trust.Subject {
	return trust.Subject{Repository: i.Reference.Repository(), Reference: i.Reference.String(), Documents: i.Documents}
}

// Root is the digest of what the reference names.
func (i *Image) Root() content.Digest { return i.Documents[0].Digest }

// ManifestDocument is the manifest.
func (i *Image) ManifestDocument() content.Document { return i.Documents[len(i.Documents)-1] }

// Close ends the image's connections.
func (i *Image) Close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, p := range i.places {
		if p.session != nil {
			p.session.close()
		}
	}
}

// session returns the session with place n.
func (i *Image) session(ctx context.Context, n int) (*session, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	p := i.places[n]
	if p.session != nil {
		return p.session, nil
	}
	var err error
	p.session, err = i.client.open(ctx, p.host, i.Reference.path, p.auth)
	return p.session, err
}

// Resolve asks the registry's mirrors, in order, then the registry itself, what the reference names now, down to the
// manifest for the client's platform.
//
// Errors: errdefs.ErrNotFound (no such image, or none for this platform), ErrPermissionDenied, ErrInvalidArgument (what
// was sent is no image that can run), ErrDataLoss (it is not what its digest says), ErrFailedPrecondition (the node's
// configuration forbids it), ErrUnknown with a text that starts with Unavailable, or ctx's own.
func (c *Client) Resolve(ctx context.Context, ref Reference, a Auth) (*Image, error) {
	if ref.host == "" {
		return nil, spec.Invalidf("the image reference is empty")
	}
	what := fmt.Sprintf("image %q", ref)
	img := &Image{Reference: ref, client: c, places: c.places(ref.host, a)}
	var last error
	for n, p := range img.places {
		s, err := img.session(ctx, n)
		if err == nil {
			if img.Documents, err = s.documents(ctx, ref.identifier(), ref.digest, c.config.Platform); err == nil {
				img.places[0], img.places[n] = img.places[n], img.places[0]
				return img, nil
			}
			err = s.classify(ctx, what, err)
		}
		if last = err; ctx.Err() != nil {
			break
		}
		if p.mirror {
			c.config.Log.Warn("mirror does not serve the image", "mirror", p.host, "image", ref.String(), "error", err)
		}
	}
	img.Close()
	return nil, last
}

type endpoint struct {
	host   string
	auth   Auth
	mirror bool
}

func (c *Client) places(host string, a Auth) []*place {
	var all []*place
	for _, m := range c.config.host(host).Mirrors {
		if m == hub {
			m = name.DefaultRegistry
		}
		all = append(all, &place{endpoint: endpoint{host: m, mirror: true}})
	}
	return append(all, &place{endpoint: endpoint{host: host, auth: a}})
}

// documents walks from a tag or digest to a manifest.
func (s *session) documents(ctx context.Context, identifier string, want content.Digest, p content.Platform) ([]content.Document, error) {
	var docs []content.Document
	mediaType := ""
	for {
		d, err := s.document(ctx, identifier, want, mediaType)
		if err != nil {
			return nil, err
		}
		docs = append(docs, d)
		if d.Manifest != nil {
			return docs, nil
		}
		if len(docs) > maxIndexes {
			return nil, spec.Invalidf("the image's index leads to an index that leads to an index: at most %d are followed", maxIndexes)
		}
		next, err := d.Index.Select(p)
		if err != nil {
			return nil, err
		}
		identifier, want, mediaType = string(next.Digest), next.Digest, next.MediaType
	}
}

var accept = strings.Join([]string{content.OCIManifest, content.OCIIndex, content.DockerManifest, content.DockerList}, ", ")

// document fetches one manifest or index. want and mediaType are "" where nobody has said them yet.
func (s *session) document(ctx context.Context, identifier string, want content.Digest, mediaType string) (content.Document, error) {
	var doc content.Document
	err := s.retry(ctx, func() error {
		b, header, err := s.fetchDocument(ctx, "manifests/"+identifier, http.Header{"Accept": {accept}}, content.MaxDocument)
		if errors.Is(err, errLong) {
			return spec.Invalidf("the registry's document is larger than the %d bytes that are accepted", content.MaxDocument)
		}
		if err != nil {
			return err
		}
		if want != "" && content.FromBytes(b) != want {
			return spec.Errorf(errdefs.ErrDataLoss, "manifest %s has other bytes: their digest is %s", want, content.FromBytes(b))
		}
		// Some proxies drop the header; one that is there and wrong is a lie.
		if said, err := content.ParseDigest(header.Get("Docker-Content-Digest")); err == nil && said != content.FromBytes(b) {
			return spec.Errorf(errdefs.ErrDataLoss, "the registry says that the manifest's digest is %s, it is %s", said, content.FromBytes(b))
		}
		if doc, err = content.Parse(b, header.Get("Content-Type")); err != nil {
			return err
		}
		if mediaType != "" && doc.MediaType != mediaType {
			return spec.Invalidf("the index says that %s is %q, it is %q", want, mediaType, doc.MediaType)
		}
		return nil
	})
	return doc, err
}

// fetchDocument reads an answer of at most limit bytes; errLong tells of a longer one.
func (s *session) fetchDocument(ctx context.Context, path string, header http.Header, limit int64) ([]byte, http.Header, error) {
	res, err := s.get(withLimit(ctx, limit), path, header)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, nil, s.guard.statusError(res)
	}
	if res.ContentLength > limit {
		return nil, nil, errLong
	}
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, nil, s.broken(ctx, err)
	}
	return b, res.Header, nil
}
