package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/runtimed/runtimed/pkg/image/content"
	"github.com/runtimed/runtimed/pkg/image/layer"
	"github.com/runtimed/runtimed/pkg/image/registry"
	"github.com/runtimed/runtimed/pkg/image/trust"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

// puller is one pull on its way through the steps. Each field is set by the step that is named beside it.
type puller struct {
	*Store
	id   string
	ref  registry.Reference
	auth registry.Auth

	remote   *registry.Image  // resolve
	verified trust.Verified   // verify
	unlock   func()           // fetch
	raw      []byte           // fetch: the config
	config   content.Config   // fetch
	chains   []content.Digest // fetch
	named    []content.Digest // fetch: what Collect must leave alone
	missing  []int            // fetch: layers that are not local
	uses     []layerUse       // unpack: of all layers
	image    content.Digest   // commit
}

// steps in order. What each undo removes it finds by the pull's id, or by what no record names.
func (p *puller) steps() []step.Step {
	return []step.Step{
		{Name: "resolve", Do: p.resolve, Undo: p.forget},
		// Nothing of a layer may be fetched before verify.
		{Name: "verify", Do: p.verify, Undo: p.unverify},
		{Name: "fetch", Do: p.fetch, Undo: p.unfetch},
		// Lower layers first: an implied directory takes owner and mode from the one below.
		{Name: "unpack", Do: p.unpack, Undo: p.ununpack},
		// Layers are durable before the record that names them.
		{Name: "commit", Do: p.commit, Undo: p.uncommit},
	}
}

func (p *puller) ingest(name ...string) string {
	return p.sub(append([]string{"ingest", p.id}, name...)...)
}

func (p *puller) staging(name ...string) string {
	return p.sub(append([]string{"staging", p.id}, name...)...)
}

func (p *puller) resolve(ctx context.Context) (err error) {
	p.remote, err = p.opts.Registry.Resolve(ctx, p.ref, p.auth)
	return err
}

func (p *puller) forget(context.Context) error {
	if p.remote != nil {
		p.remote.Close()
		p.remote = nil
	}
	return nil
}

func (p *puller) verify(context.Context) (err error) {
	p.verified, err = p.opts.Policy.Verify(p.remote.Subject())
	return err
}

func (p *puller) unverify(context.Context) error {
	p.verified = trust.Verified{}
	return nil
}

// fetch gets the config, finds out which layers are missing, and gets these.
func (p *puller) fetch(ctx context.Context) (err error) {
	m := p.verified.Manifest()
	if p.unlock, err = p.lockImage(ctx, m.Config.Digest); err != nil {
		return err
	}
	if p.raw, err = p.remote.Config(ctx, p.verified); err != nil {
		return err
	}
	if p.config, err = content.ParseConfig(p.raw, p.opts.Registry.Platform(), len(m.Layers)); err != nil {
		return spec.Errorf(spec.KindOf(err), "image %q: %w", p.ref, err)
	}
	p.chains = content.ChainIDs(p.config.DiffIDs)
	// What a power cut left must not be taken for whole; what another pull has made may be.
	p.collectNow()
	p.protect(append(slices.Clone(p.chains), m.Config.Digest, p.verified.ManifestDigest()))
	for i, chain := range p.chains {
		if _, err := os.Lstat(p.layer(chain)); errors.Is(err, fs.ErrNotExist) {
			p.missing = append(p.missing, i)
		} else if err != nil {
			return err
		}
	}
	if err := os.Mkdir(p.ingest(), 0o700); err != nil {
		return content.DiskError(err)
	}
	return p.fetchLayers(ctx, m)
}

func (p *puller) protect(ds []content.Digest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.named = ds
	p.name(ds)
}

func (p *puller) fetchLayers(ctx context.Context, m content.Manifest) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(p.opts.Parallel)
	begun := map[content.Digest]bool{}
	for _, i := range p.missing {
		// One blob may be several layers: above other layers it is another chain.
		if begun[m.Layers[i].Digest] {
			continue
		}
		begun[m.Layers[i].Digest] = true
		group.Go(func() error {
			f, err := os.OpenFile(p.ingest(m.Layers[i].Digest.Hex()), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return content.DiskError(err)
			}
			err = p.remote.Layer(ctx, p.verified, i, f)
			if cerr := f.Close(); err == nil {
				err = content.DiskError(cerr)
			}
			return err
		})
	}
	return group.Wait()
}

func (p *puller) unfetch(context.Context) error { return p.discard(p.ingest()) }

// unpack turns each missing layer into a directory in staging.
func (p *puller) unpack(ctx context.Context) error {
	if err := os.Mkdir(p.staging(), 0o700); err != nil {
		return content.DiskError(err)
	}
	m := p.verified.Manifest()
	var dirs []string
	for i, chain := range p.chains {
		dir := p.layer(chain)
		if slices.Contains(p.missing, i) {
			dir = p.staging(chain.Hex())
			if err := p.unpackLayer(ctx, p.verified, i, dirs, dir); err != nil {
				return err
			}
			if !p.neededAgain(m, i) {
				if err := os.Remove(p.ingest(m.Layers[i].Digest.Hex())); err != nil {
					return err
				}
			}
		}
		use, err := p.measure(chain, dir)
		if err != nil {
			return err
		}
		p.uses, dirs = append(p.uses, use), append(dirs, dir)
	}
	return nil
}

func (p *puller) neededAgain(m content.Manifest, i int) bool {
	return slices.ContainsFunc(p.missing, func(j int) bool { return j > i && m.Layers[j].Digest == m.Layers[i].Digest })
}

// unpackLayer has the worker unpack layer i of what was verified.
func (p *puller) unpackLayer(ctx context.Context, v trust.Verified, i int, parents []string, dir string) error {
	l := v.Manifest().Layers[i]
	blob, err := os.Open(p.ingest(l.Digest.Hex()))
	if err != nil {
		return err
	}
	defer blob.Close()
	// The archive's own entry for the root, where it has one, sets another mode.
	if err := os.Mkdir(dir, 0o755); err != nil {
		return content.DiskError(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	_, err = p.opts.Unpacker.Unpack(ctx, layer.Request{
		Blob: blob, Compression: l.Compression, DiffID: string(p.config.DiffIDs[i]), Target: dir,
		Parents: slices.Clone(parents), Limits: p.opts.Limits,
	})
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("image %q: pull ended: %w", p.ref, registry.Ended(ctx))
	case spec.KindOf(err) != nil:
		return spec.Errorf(spec.KindOf(err), "image %q: layer %d (%s): %w", p.ref, i, l.Digest, err)
	}
	return fmt.Errorf("layer %d (%s): %w", i, l.Digest, content.DiskError(err))
}

// ununpack throws the staged layers away.
func (p *puller) ununpack(context.Context) error { return p.discard(p.staging()) }

// finish ends what a pull holds, whether it succeeded or not.
func (p *puller) finish() {
	p.release()
	p.forget(context.Background())
	if p.unlock != nil {
		p.unlock()
	}
	p.mu.Lock()
	delete(p.active, p.id)
	p.mu.Unlock()
	p.wake()
}
