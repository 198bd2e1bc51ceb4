package sandbox

import (
	"context"
	"errors"
	"sync"
)

// flights joins equal calls: a retry of a call that is still under way waits for it and gets its result.
type flights struct {
	mu  sync.Mutex
	all map[string]*flight
}

type flight struct {
	cancel  context.CancelCauseFunc
	done    chan struct{}
	waiting int  // callers that still want the result
	doomed  bool // all of them left: the work is being given up
	id      string
	err     error
}

// errAbandoned ends a flight that nobody waits for any more.
var errAbandoned = errors.New("every caller has given up")

// do runs fn once for all callers that name the same key at the same time. fn gets a context that outlives any one
// caller: it ends when the last of them has left. A caller that leaves gets its own context's error.
func (f *flights) do(ctx context.Context, key string, fn func(context.Context) (string, error)) (string, error) {
	for {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		fl, joined := f.join(ctx, key, fn)
		if !joined { // a doomed one: its name is free when it has undone what it did
			select {
			case <-fl.done:
				continue
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}
		select {
		case <-fl.done:
			return fl.id, fl.err
		case <-ctx.Done():
			f.leave(fl)
			return "", ctx.Err()
		}
	}
}

func (f *flights) join(ctx context.Context, key string, fn func(context.Context) (string, error)) (*flight, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl := f.all[key]; fl != nil {
		if fl.doomed {
			return fl, false
		}
		fl.waiting++
		return fl, true
	}
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	fl := &flight{cancel: cancel, done: make(chan struct{}), waiting: 1}
	if f.all == nil {
		f.all = map[string]*flight{}
	}
	f.all[key] = fl
	go func() {
		defer cancel(nil)
		id, err := fn(work)
		f.mu.Lock()
		delete(f.all, key)
		fl.id, fl.err = id, err
		f.mu.Unlock()
		close(fl.done)
	}()
	return fl, true
}

func (f *flights) leave(fl *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fl.waiting--
	if fl.waiting == 0 {
		fl.doomed = true
		fl.cancel(errAbandoned)
	}
}

// lock is a mutex whose waiters can give up.
type lock chan struct{}

func newLock() lock { return make(lock, 1) }

// acquire returns the release, or ctx's error.
func (l lock) acquire(ctx context.Context) (release func(), err error) {
	select {
	case l <- struct{}{}:
		return func() { <-l }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
