package image

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/image/content"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Store is the node's image store. It is safe for use by several goroutines. One process may have one directory open.
type Store struct {
	paths
	opts  Options
	blobs content.Blobs

	pulling atomic.Int64 // pulls in flight; deleting waits for them
	kick    chan struct{}
	life    context.Context
	end     context.CancelCauseFunc
	work    sync.WaitGroup

	commits sync.Mutex // held while records are written; taken before mu

	mu      sync.Mutex
	images  map[content.Digest]*image // by id
	seq     uint64                    // highest number of a pull so far
	named   map[content.Digest]int    // chains and blobs that a pull or a borrower names
	dropped uint64                    // counts the ends of such names, see Collect
	flights map[string]*flight
	active  map[string]bool // ids of pulls whose directories are theirs
	locks   map[content.Digest]*lock
}

// errClosed ends the pulls of a store that closes.
var errClosed = spec.Errorf(errdefs.ErrUnavailable, "the daemon is stopping: pull the image again when it is back")

// Open opens the store, makes its directories and takes up what it finds: what killed pulls left is thrown away, and a
// record that cannot be believed is set aside in Layout.Quarantine and logged; neither ever keeps the store from opening.
func Open(o Options) (*Store, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	s := &Store{
		opts: o, paths: paths{o.Layout}, kick: make(chan struct{}, 1),
		images: map[content.Digest]*image{}, named: map[content.Digest]int{}, flights: map[string]*flight{},
		active: map[string]bool{}, locks: map[content.Digest]*lock{},
	}
	s.blobs = content.Blobs{Dir: s.sub("blobs", "sha256")}
	s.life, s.end = context.WithCancelCause(context.Background())
	for _, dir := range []string{s.sub("records"), s.blobs.Dir, o.Layout.Layers(), s.sub("ingest"), s.sub("staging"), s.sub("trash"), o.Layout.Quarantine()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, content.DiskError(err)
		}
	}
	// An older umask or a hand may have opened them: set-user-id files of images are below.
	for _, dir := range []string{o.Layout.Images(), o.Layout.Layers(), s.sub("staging"), s.sub("trash")} {
		if err := os.Chmod(dir, 0o700); err != nil {
			return nil, err
		}
	}
	if err := s.recover(); err != nil {
		return nil, err
	}
	s.work.Add(1)
	go s.clean()
	return s, nil
}

// Close ends the pulls in flight and waits until they are undone. The store must not be used any more.
func (s *Store) Close() error {
	s.mu.Lock() // no pull starts between these two
	s.end(errClosed)
	s.mu.Unlock()
	s.work.Wait()
	return nil
}

// recover takes up what is on disk.
func (s *Store) recover() error {
	s.sweepPulls()
	files, err := os.ReadDir(s.sub("records"))
	if err != nil {
		return err
	}
	for _, f := range files {
		if strings.HasPrefix(f.Name(), ".tmp-") {
			os.Remove(filepath.Join(s.sub("records"), f.Name()))
			continue
		}
		img, err := s.load(f.Name())
		if err != nil {
			s.quarantine(f.Name(), err)
			continue
		}
		s.images[img.ID] = img
		for _, n := range img.Tags {
			s.seq = max(s.seq, n)
		}
	}
	s.settleTags()
	return nil
}

// quarantine sets a record aside. Its layers stay until it is known that no container uses them.
func (s *Store) quarantine(file string, why error) {
	from := filepath.Join(s.sub("records"), file)
	to := filepath.Join(s.opts.Layout.Quarantine(), fmt.Sprintf("image-%s.%d", file, s.opts.Now().UnixNano()))
	err := os.Rename(from, to)
	s.opts.Log.Error("image record is set aside: it cannot be believed; pull the image again", "record", from, "to", to, "error", why, "rename", err)
}

// settleTags gives a tag that two images claim, because a power cut came between two records, to the later pull.
func (s *Store) settleTags() {
	owner := map[string]*image{}
	for _, img := range s.images {
		for tag, n := range img.Tags {
			if o := owner[tag]; o == nil || n > o.Tags[tag] {
				owner[tag] = img
			}
		}
	}
	for _, img := range s.images {
		r := img.record.clone()
		for tag := range img.Tags {
			if owner[tag] != img {
				delete(r.Tags, tag)
			}
		}
		if len(r.Tags) == len(img.Tags) {
			continue
		}
		// Where it cannot be written, the next start settles it again.
		if err := s.save(r); err != nil {
			s.opts.Log.Warn("image record is not updated", "image", img.ID, "error", err)
		}
		img.record = r
	}
}

// Open opens a regular file of unpacked layers (chain ids, lowest first), resolved as a process with these layers as its
// root would see it: no symbolic link leaves them. The error matches fs.ErrNotExist where there is none.
func (s *Store) Open(layers []string, path string) (io.ReadCloser, error) {
	dirs, err := s.layerDirs(layers)
	if err != nil {
		return nil, err
	}
	return s.opts.OpenFile(dirs, path)
}

// Find tells whether a path of unpacked layers is a directory, or else a regular file, resolved as Open does. The error
// matches fs.ErrNotExist where there is neither.
func (s *Store) Find(layers []string, path string) (dir bool, err error) {
	dirs, err := s.layerDirs(layers)
	if err != nil {
		return false, err
	}
	return s.opts.FindFile(dirs, path)
}

func (s *Store) layerDirs(layers []string) ([]string, error) {
	dirs := make([]string, 0, len(layers))
	for _, l := range layers {
		chain, err := content.ParseDigest(l)
		if err != nil {
			return nil, err
		}
		dirs = append(dirs, s.layer(chain))
	}
	if len(dirs) == 0 {
		return nil, fs.ErrNotExist
	}
	return dirs, nil
}

// syncfs makes all that was written to the store's file system durable (syncfs(2)).
func (s *Store) syncfs() error {
	d, err := os.Open(s.opts.Layout.Images())
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return content.DiskError(fmt.Errorf("syncfs %s: %w", d.Name(), err))
	}
	return nil
}
