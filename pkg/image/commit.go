package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/image/content"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// commit makes the layers durable and then names them in the image's record.
func (p *puller) commit(context.Context) error {
	for _, i := range p.missing {
		from, to := p.staging(p.chains[i].Hex()), p.layer(p.chains[i])
		err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
		// Another image's pull may have made the same layer meanwhile.
		if err != nil && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENOTEMPTY) {
			return content.DiskError(fmt.Errorf("layer %s: %w", p.chains[i], err))
		}
	}
	m := p.remote.ManifestDocument()
	if err := p.blobs.Put(m.Digest, m.Raw); err != nil {
		return err
	}
	id := content.FromBytes(p.raw)
	if err := p.blobs.Put(id, p.raw); err != nil {
		return err
	}
	if err := p.syncfs(); err != nil {
		return err
	}
	if err := p.enter(id); err != nil {
		return err
	}
	p.image = id
	return nil
}

// enter writes the image's record, and then takes its tag from the image that had it.
func (p *puller) enter(id content.Digest) error {
	p.commits.Lock()
	defer p.commits.Unlock()
	p.mu.Lock()
	r := record{Version: spec.RecordVersion, ID: id}
	if old := p.images[id]; old != nil {
		r = old.record
	}
	last := p.byName(p.ref)
	p.seq++
	seq := p.seq
	p.mu.Unlock()

	r = r.clone()
	r.Manifest, r.Layers, r.PulledAt = p.verified.ManifestDigest(), p.uses, p.opts.Now().UnixNano()
	if p.ref.Tag() != "" {
		r.Tags[p.ref.String()] = seq
	}
	digest := p.ref.Repository() + "@" + string(p.verified.Root())
	r.Digests = append(slices.DeleteFunc(r.Digests, func(d string) bool { return d == digest }), digest)
	if err := p.save(r); err != nil {
		return err
	}
	p.mu.Lock()
	p.images[id] = &image{record: r, config: p.config}
	p.mu.Unlock()
	if p.ref.Tag() != "" && last != nil && last.ID != id {
		p.untag(last)
	}
	return nil
}

// untag takes the pull's tag from an image. Where that cannot be written, the numbers of the tags decide at the next
// start. commits is held.
func (p *puller) untag(last *image) {
	r := last.record.clone()
	delete(r.Tags, p.ref.String())
	if err := p.save(r); err != nil {
		p.opts.Log.Warn("image record is not updated", "image", last.ID, "error", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.images[last.ID] = &image{record: r, config: last.config}
}

// uncommit brings the record on disk back to the one in memory, which is set last, and throws away the layers that no
// record names.
func (p *puller) uncommit(context.Context) error {
	if p.verified.Valid() {
		if err := p.restore(p.verified.Manifest().Config.Digest); err != nil {
			return err
		}
	}
	p.release()
	p.collectNow()
	return nil
}

func (p *puller) restore(id content.Digest) error {
	p.commits.Lock()
	defer p.commits.Unlock()
	p.mu.Lock()
	img := p.images[id]
	p.mu.Unlock()
	if img == nil {
		return p.removeRecord(id)
	}
	if b, err := content.ReadFile(p.record(id), maxRecord); err == nil && bytes.Equal(b, img.encode()) {
		return nil
	}
	return p.save(img.record)
}

// release drops the names of the pull's layers and blobs.
func (p *puller) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.named != nil {
		p.drop(p.named)
		p.named = nil
	}
}
