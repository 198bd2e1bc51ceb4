package cni

import (
	"context"
	"sync"
)

// locks are mutexes by name whose waiters can give up. The zero value is ready.
type locks struct {
	mu  sync.Mutex
	all map[string]*named
}

type named struct {
	held  chan struct{}
	users int
}

// acquire returns the release, or ctx's error.
func (l *locks) acquire(ctx context.Context, name string) (release func(), err error) {
	l.mu.Lock()
	if l.all == nil {
		l.all = map[string]*named{}
	}
	k := l.all[name]
	if k == nil {
		k = &named{held: make(chan struct{}, 1)}
		l.all[name] = k
	}
	k.users++
	l.mu.Unlock()
	select {
	case k.held <- struct{}{}:
		return func() { <-k.held; l.leave(name, k) }, nil
	case <-ctx.Done():
		l.leave(name, k)
		return nil, context.Cause(ctx)
	}
}

func (l *locks) leave(name string, k *named) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k.users--; k.users == 0 {
		delete(l.all, name)
	}
}
