package image

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/runtimed/runtimed/pkg/image/content"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Use finds an image as Get does and keeps its layers until release is called, which may be called more than once. A
// caller that writes a container's record calls it after Options.InUse has begun to return that record.
func (s *Store) Use(_ context.Context, ref string) (use spec.ImageUse, release func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	img, err := s.find(ref)
	if err != nil {
		return use, nil, err
	}
	if img == nil {
		return use, nil, notFound(ref)
	}
	view := img.view()
	use = spec.ImageUse{ID: view.ID, Ref: img.reference(ref), UserImage: ref, Layers: view.Layers, Config: view.Config}
	chains := img.chains()
	s.name(chains)
	return use, sync.OnceFunc(func() {
		s.mu.Lock()
		s.drop(chains)
		s.mu.Unlock()
		s.wake()
	}), nil
}

// name protects chains and blobs from Collect until drop. mu is held.
func (s *Store) name(ds []content.Digest) {
	for _, d := range ds {
		s.named[d]++
	}
}

func (s *Store) drop(ds []content.Digest) {
	for _, d := range ds {
		if s.named[d]--; s.named[d] <= 0 {
			delete(s.named, d)
		}
	}
	s.dropped++
}

// Remove removes the image that a reference finds as Get does, with all its tags and digests. One that is not there is
// removed. Layers stay while another image, a borrower or a container uses them.
func (s *Store) Remove(_ context.Context, ref string) error {
	found, err := s.removeImage(ref)
	if found {
		s.Collect()
	}
	return err
}

func (s *Store) removeImage(ref string) (found bool, err error) {
	s.commits.Lock()
	defer s.commits.Unlock()
	s.mu.Lock()
	img, err := s.find(ref)
	s.mu.Unlock()
	if err != nil || img == nil {
		return false, err
	}
	if err := s.removeRecord(img.ID); err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.images, img.ID)
	return true, nil
}

// removeRecord removes a record for good: after a power cut it must not come back without its layers. commits is held.
func (s *Store) removeRecord(id content.Digest) error {
	err := os.Remove(s.record(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return content.DiskError(err)
	}
	return content.SyncDir(s.sub("records"))
}

// Collect throws away what nobody needs any more: layers and blobs that no record, pull, borrower or container names, and
// what failed pulls left. The daemon calls it once its container records are read, and whenever a container is removed.
// It renames; the deleting is done in the background.
func (s *Store) Collect() {
	s.collectNow()
	s.wake()
}

func (s *Store) collectNow() {
	for {
		s.mu.Lock()
		before := s.dropped
		s.mu.Unlock()
		// Without mu: InUse may wait for someone who waits for Use.
		inUse := s.opts.InUse()
		if s.collect(inUse, before) {
			break
		}
	}
	s.sweepPulls()
}

// collect returns false when a name was dropped since before: what it named may since be in a container's record, which
// inUse does not show.
func (s *Store) collect(inUse []spec.ImageUse, before uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dropped != before {
		return false
	}
	keep := map[string]bool{}
	for d := range s.named {
		keep[d.Hex()] = true
	}
	for _, u := range inUse {
		for _, l := range u.Layers {
			keep[spec.LayerDir(l)] = true
		}
	}
	for _, img := range s.images {
		keep[img.ID.Hex()], keep[img.Manifest.Hex()] = true, true
		for _, l := range img.Layers {
			keep[l.Chain.Hex()] = true
		}
	}
	for _, dir := range []string{s.opts.Layout.Layers(), s.blobs.Dir} {
		s.discardAll(dir, func(name string) bool { return !keep[name] })
	}
	return true
}

// sweepPulls throws away the directories of pulls that are not in flight.
func (s *Store) sweepPulls() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, dir := range []string{s.sub("ingest"), s.sub("staging")} {
		s.discardAll(dir, func(name string) bool { return !s.active[name] })
	}
}

// discardAll moves the entries of dir that gone selects into the trash.
func (s *Store) discardAll(dir string, gone func(name string) bool) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		s.opts.Log.Warn("image store cannot be cleaned", "directory", dir, "error", err)
		return
	}
	for _, e := range entries {
		// A temporary file of Blobs.Put may be in use; it is younger than its pull.
		if strings.HasPrefix(e.Name(), ".tmp-") && s.pulling.Load() > 0 || !gone(e.Name()) {
			continue
		}
		if err := s.discard(filepath.Join(dir, e.Name())); err != nil {
			s.opts.Log.Warn("image store cannot be cleaned", "path", filepath.Join(dir, e.Name()), "error", err)
		}
	}
}

// discard moves path into the trash; what is not there is gone already.
func (s *Store) discard(path string) error {
	err := os.Rename(path, s.sub("trash", rand.Text()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// wake lets the cleaner collect, and delete.
func (s *Store) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// Deleting a large tree makes unpacking on the same file system two to three times slower, so it waits for pulls to end,
// for a while.
const (
	deferStep = 100 * time.Millisecond
	deferMost = 30 * time.Second
)

// clean deletes what is in the trash, until the store closes.
func (s *Store) clean() {
	defer s.work.Done()
	for {
		s.deferToPulls()
		if s.life.Err() != nil {
			return
		}
		entries, err := os.ReadDir(s.sub("trash"))
		if err != nil {
			s.opts.Log.Warn("image trash cannot be read", "error", err)
		}
		for _, e := range entries {
			if s.life.Err() != nil {
				return
			}
			if err := os.RemoveAll(s.sub("trash", e.Name())); err != nil {
				s.opts.Log.Warn("image trash cannot be deleted", "error", err)
			}
		}
		select {
		case <-s.kick:
			s.collectNow()
		case <-s.life.Done():
			return
		}
	}
}

func (s *Store) deferToPulls() {
	t := time.NewTicker(deferStep)
	defer t.Stop()
	for waited := time.Duration(0); s.pulling.Load() > 0 && waited < deferMost; waited += deferStep {
		select {
		case <-t.C:
		case <-s.life.Done():
			return
		}
	}
}
