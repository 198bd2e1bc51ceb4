package image

import (
	"context"

	"github.com/runtimed/runtimed/pkg/image/content"
	"github.com/runtimed/runtimed/pkg/image/registry"
)

// lock keeps two pulls from fetching one image side by side: the second finds the layers of the first. It is gone when
// nobody holds it or waits for it.
type lock struct {
	users int           // guarded by Store.mu
	held  chan struct{} // has room for the holder
}

// lockImage waits for the lock of an image id. Its unlock may be called once.
func (s *Store) lockImage(ctx context.Context, id content.Digest) (unlock func(), err error) {
	s.mu.Lock()
	l := s.locks[id]
	if l == nil {
		l = &lock{held: make(chan struct{}, 1)}
		s.locks[id] = l
	}
	l.users++
	s.mu.Unlock()
	leave := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(s.locks, id)
		}
	}
	select {
	case l.held <- struct{}{}:
		return func() { <-l.held; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, registry.Ended(ctx)
	}
}
