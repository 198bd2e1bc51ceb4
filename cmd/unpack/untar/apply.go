package untar

import (
	"archive/tar"
	"io"
	"os"
	"path"
	"strings"

	"github.com/runtimed/runtimed/pkg/image/layer"
	"github.com/runtimed/runtimed/pkg/image/rootfs"
)

// Job is one layer to apply.
type Job struct {
	Blob        io.Reader
	Compression string
	DiffID      string // "sha256:<hex>"; "" is not compared
	Target      *os.File
	Lower       *rootfs.Stack // the layers below
	Limits      layer.Limits  // without zeroes
}

// Apply unpacks a layer. Its errors have the kinds of layer.Worker.Unpack. The process' umask must be 0.
func Apply(j Job) (layer.Result, error) {
	s, err := newStream(j.Blob, j.Compression, j.Limits)
	if err != nil {
		return layer.Result{}, err
	}
	defer s.Close()
	t, err := newTree(int(j.Target.Fd()), j.Lower, j.Limits)
	if err != nil {
		return layer.Result{}, err
	}
	defer t.close()
	if err := t.entriesOf(s); err != nil {
		return layer.Result{}, err
	}
	if err := s.Drain(); err != nil {
		return layer.Result{}, err
	}
	if digest := s.Digest(); j.DiffID != "" && digest != j.DiffID {
		return layer.Result{}, badf("the archive is %s, but the image's configuration says %s", digest, j.DiffID)
	}
	if err := t.hide(); err != nil {
		return layer.Result{}, err
	}
	if err := t.times.set(t); err != nil {
		return layer.Result{}, err
	}
	return layer.Result{Bytes: t.bytes, Entries: t.entries}, nil
}

// entriesOf applies the entries in their order.
func (t *tree) entriesOf(s *stream) error {
	r := tar.NewReader(s)
	w := &writer{tree: t, from: r, buf: make([]byte, 128<<10)}
	for {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return streamError(s, err)
		}
		if t.headers++; t.headers > t.limits.Entries {
			return tooMuchf("there are more than %d entries, the limit of one layer", t.limits.Entries)
		}
		if err := w.entry(h); err != nil {
			return err
		}
	}
}

// streamError prefers the stream's own word to the one that the tar reader makes of it.
func streamError(s *stream, err error) error {
	if s.err != nil && s.err != io.EOF {
		return s.err
	}
	if err == io.ErrUnexpectedEOF {
		return badf("the archive ends in the middle of an entry")
	}
	return badf("the archive cannot be read: %w", err)
}

const (
	whiteoutPrefix = ".wh."
	metaPrefix     = ".wh..wh."
	opaqueName     = ".wh..wh..opq"
)

// entry applies one entry.
func (w *writer) entry(h *tar.Header) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name := clean(h.Name)
	if name == "" {
		return nil // the root has no attributes of its own, as with archive.Apply
	}
	if err := w.checkName(name); err != nil {
		return err
	}
	dirname, base := path.Split(name)
	skip, err := checkParents(dirname)
	if skip || err != nil {
		return err
	}
	w.rest()
	at, err := w.directory(strings.TrimSuffix(dirname, "/"), true)
	if err != nil {
		return err
	}
	switch {
	case base == opaqueName:
		return w.hideBelow(at)
	case strings.HasPrefix(base, metaPrefix):
		return nil
	case strings.HasPrefix(base, whiteoutPrefix):
		gone := base[len(whiteoutPrefix):]
		if gone == "" || gone == "." || gone == ".." {
			return badf("whiteout %s names no file", short(name))
		}
		return w.tree.whiteout(at, gone)
	}
	delete(w.copied, join(at.path, base))
	return w.place(at, base, h)
}

func (w *writer) checkName(name string) error {
	switch {
	case len(name) > maxPath:
		return badf("path %s is longer than %d bytes", short(name), maxPath)
	case strings.Count(name, "/") >= w.limits.Depth:
		return tooMuchf("path %s is deeper than %d directories, the limit", short(name), w.limits.Depth)
	case strings.ContainsRune(name, 0):
		return badf("path %s has a NUL in it", short(name))
	}
	return nil
}

// checkParents tells whether an entry is below AUFS' own bookkeeping, and refuses one below a whiteout.
func checkParents(dirname string) (skip bool, err error) {
	if !strings.Contains(dirname, whiteoutPrefix) {
		return false, nil
	}
	for part := range strings.SplitSeq(dirname, "/") {
		if strings.HasPrefix(part, metaPrefix) {
			return true, nil
		}
		if strings.HasPrefix(part, whiteoutPrefix) {
			return false, badf("%s is a whiteout, but an entry is below it", short(dirname))
		}
	}
	return false, nil
}
