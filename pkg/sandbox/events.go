package sandbox

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

const (
	// eventsKept are the events that wait for one subscriber. A node of 500 pods that all end at once has two for each.
	eventsKept = 1024
	// eventsMissed are the changes that are remembered for the first subscriber after a start.
	eventsMissed = 256
)

// bus hands events to subscribers. Publishing never waits: a subscriber whose ring is full is dropped, and must list
// what there is and subscribe again. Events are ordered, and each is made under mu: what one shows was never true
// before what the one ahead of it shows.
type bus struct {
	dropped atomic.Uint64
	mu      sync.Mutex // before any pod's or container's mu
	readers map[*reader]struct{}
	// missed are what happened since the start of the daemon, and the ends from before it that nobody was told of. The
	// first subscriber gets them; nothing is remembered after it.
	missed []missed
	served bool
}

type reader struct{ ring chan spec.Event }

// missed holds no picture of the pod: that is made when somebody wants it.
type missed struct {
	kind spec.EventKind
	id   string
	pod  *pod
}

// Events calls each with every event from now on, in order, until ctx ends, the Runtime is closed, or each returns an
// error, which is returned. subscribed is called once, before the first event: what changes after it is not missed. The first
// subscriber after a start of the daemon also gets what happened since then, and the ends that happened while there was
// none, all with the pods as they are now. ResourceExhausted: each was so slow that events were lost.
func (r *Runtime) Events(ctx context.Context, subscribed func(), each func(spec.Event) error) error {
	sub, early := r.subscribe()
	defer r.unsubscribe(sub)
	subscribed()
	for _, e := range early {
		if err := each(e); err != nil {
			return err
		}
	}
	for {
		select {
		case e, ok := <-sub.ring:
			if !ok {
				return spec.Errorf(errdefs.ErrResourceExhausted,
					"more than %d events waited for this reader, and some are lost: list what there is, and ask for events again", eventsKept)
			}
			if err := each(e); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-r.quit.Done():
			return spec.Errorf(errdefs.ErrUnavailable, "the daemon is stopping")
		}
	}
}

// EventReadersDropped counts the subscribers that were too slow, since the start.
func (r *Runtime) EventReadersDropped() uint64 { return r.events.dropped.Load() }

func (r *Runtime) subscribe() (*reader, []spec.Event) {
	b := &r.events
	b.mu.Lock()
	defer b.mu.Unlock()
	var early []spec.Event
	for _, m := range b.missed {
		early = append(early, spec.Event{Kind: m.kind, ID: m.id, Sandbox: r.podView(m.pod)})
	}
	b.missed, b.served = nil, true
	sub := &reader{ring: make(chan spec.Event, eventsKept)}
	if b.readers == nil {
		b.readers = map[*reader]struct{}{}
	}
	b.readers[sub] = struct{}{}
	return sub, early
}

func (r *Runtime) unsubscribe(sub *reader) {
	r.events.mu.Lock()
	defer r.events.mu.Unlock()
	delete(r.events.readers, sub)
}

// publish tells that the change can be seen from now on. It is called behind the change, without a lock of the pod or
// of a container, and never waits. A pod that is being made is nobody's business yet.
func (r *Runtime) publish(p *pod, id string, kind spec.EventKind) {
	p.mu.Lock()
	visible := p.visible
	p.mu.Unlock()
	if !visible {
		return
	}
	b := &r.events
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.served {
		b.missed = append(b.missed, missed{kind, id, p})
		b.missed = b.missed[max(0, len(b.missed)-eventsMissed):]
		return
	}
	if len(b.readers) == 0 {
		return
	}
	e := spec.Event{Kind: kind, ID: id, Sandbox: r.podView(p)}
	for sub := range b.readers {
		select {
		case sub.ring <- e:
		default:
			delete(b.readers, sub)
			close(sub.ring)
			b.dropped.Add(1)
			r.Log.Warn("a reader of events was too slow and is dropped", "waiting", eventsKept)
		}
	}
}

// appear makes a sandbox that was made, or that could not be undone, everybody's business.
func (r *Runtime) appear(p *pod) {
	p.show()
	r.publish(p, p.spec.ID, spec.EventCreated)
	if p.state(r.bootID) == spec.SandboxReady {
		r.publish(p, p.spec.ID, spec.EventStarted)
	}
}

// publishEndMeanwhile tells of an end that happened while there was no daemon. Its mark is what the clearing behind an
// end takes away last but the record: a daemon that saw the end has told of it before it cleared.
func (r *Runtime) publishEndMeanwhile(c *container) {
	if _, err := os.Lstat(r.Layout.Rootfs(c.spec.ID)); !errors.Is(err, fs.ErrNotExist) {
		r.publish(c.pod, c.spec.ID, spec.EventStopped)
	}
}
