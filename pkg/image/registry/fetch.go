package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/image/content"
	"github.com/runtimed/runtimed/pkg/image/trust"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Config fetches the image's config. The bytes have the digest and the size that the verified manifest says.
func (i *Image) Config(ctx context.Context, v trust.Verified) ([]byte, error) {
	if err := i.opens(v); err != nil {
		return nil, err
	}
	d := v.Manifest().Config
	var out []byte
	err := i.each(ctx, fmt.Sprintf("config of image %q", i.Reference), func(s *session) error {
		return s.retry(ctx, func() error {
			b, _, err := s.fetchDocument(ctx, "blobs/"+string(d.Digest), http.Header{}, d.Size)
			if errors.Is(err, errLong) {
				return spec.Errorf(errdefs.ErrDataLoss, "config %s is longer than the %d bytes that the manifest says", d.Digest, d.Size)
			}
			if err != nil {
				return err
			}
			check := content.NewVerifier(d)
			if _, err := check.Write(b); err != nil {
				return err
			}
			out = b
			return check.Verify()
		})
	})
	return out, err
}

// Layer fetches layer n of the verified manifest into f, which it truncates first. What it leaves in f after an error
// means nothing. A transfer that breaks off goes on where it was.
func (i *Image) Layer(ctx context.Context, v trust.Verified, n int, f *os.File) error {
	if err := i.opens(v); err != nil {
		return err
	}
	layers := v.Manifest().Layers
	if n < 0 || n >= len(layers) {
		return spec.Invalidf("image %q has no layer %d", i.Reference, n)
	}
	return i.each(ctx, fmt.Sprintf("layer %d of image %q", n, i.Reference), func(s *session) error {
		t := &transfer{session: s, want: layers[n].Descriptor, to: f}
		return s.retry(ctx, func() error { return t.run(ctx) })
	})
}

// opens refuses everything but the proof for this very image.
func (i *Image) opens(v trust.Verified) error {
	if !v.Valid() || v.ManifestDigest() != i.ManifestDocument().Digest || v.Repository() != i.Reference.Repository() {
		return spec.Errorf(errdefs.ErrPermissionDenied, "image %q was not verified", i.Reference)
	}
	return nil
}

// each tries the place that served the manifest, then the others, until one serves the blob.
func (i *Image) each(ctx context.Context, what string, f func(*session) error) error {
	var last error
	for n := range i.places {
		s, err := i.session(ctx, n)
		if err == nil {
			if err = f(s); err == nil {
				return nil
			}
			err = s.classify(ctx, what, err)
		}
		if last = err; ctx.Err() != nil || errdefs.IsResourceExhausted(last) {
			break
		}
	}
	return last
}

// transfer is one blob on its way into a file, over as many requests as it takes.
type transfer struct {
	session *session
	want    content.Descriptor
	to      *os.File
	check   *content.Verifier // nil before the first byte
}

func (t *transfer) run(ctx context.Context) error {
	header := http.Header{"Accept-Encoding": {"identity"}}
	offset := int64(0)
	if t.check != nil {
		offset = t.check.Written()
	}
	if offset > 0 && offset < t.want.Size {
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, t.want.Size-1))
	}
	res, err := t.session.get(withLimit(ctx, unlimited), "blobs/"+string(t.want.Digest), header)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode == http.StatusOK:
		if err := t.restart(); err != nil {
			return err
		}
		offset = 0
	case res.StatusCode == http.StatusPartialContent && header.Get("Range") != "":
		if got, want := res.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-%d/%d", offset, t.want.Size-1, t.want.Size); got != want {
			return spec.Errorf(errdefs.ErrDataLoss, "blob %s: the registry was asked for %s and sends %q", t.want.Digest, want, content.Clip(got))
		}
	case res.StatusCode == http.StatusRequestedRangeNotSatisfiable && t.check != nil:
		t.check = nil // it cannot go on where it was: begin again
		return errBroken
	default:
		return t.session.guard.statusError(res)
	}
	if res.ContentLength >= 0 && res.ContentLength != t.want.Size-offset {
		return spec.Errorf(errdefs.ErrDataLoss, "blob %s: the registry sends %d bytes, the manifest says %d", t.want.Digest, res.ContentLength, t.want.Size-offset)
	}
	// The verifier stands first: what it refuses is never written.
	if _, err := io.CopyBuffer(both{t.check, t.to}, res.Body, make([]byte, 128<<10)); err != nil {
		return t.session.broken(ctx, content.DiskError(err))
	}
	return t.check.Verify()
}

func (t *transfer) restart() error {
	t.check = content.NewVerifier(t.want)
	if err := t.to.Truncate(0); err != nil {
		return content.DiskError(err)
	}
	_, err := t.to.Seek(0, io.SeekStart)
	return err
}

type both struct {
	first  io.Writer
	second io.Writer
}

func (b both) Write(p []byte) (int, error) {
	if n, err := b.first.Write(p); err != nil {
		return n, err
	}
	return b.second.Write(p)
}

// broken marks an error in the middle of an answer as one that another try may mend.
func (s *session) broken(ctx context.Context, err error) error {
	short := s.guard.shorten(err)
	var path *os.PathError
	switch {
	case ctx.Err() != nil:
		return Ended(ctx)
	case spec.KindOf(err) != nil, errors.As(err, &path), errors.Is(short, errStalled), errors.Is(short, errSlow), errors.Is(short, errLong):
		return short
	}
	return fmt.Errorf("%w: %w", errBroken, short)
}
