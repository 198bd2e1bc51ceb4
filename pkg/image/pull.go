package image

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/runtimed/runtimed/pkg/image/content"
	"github.com/runtimed/runtimed/pkg/image/registry"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

// undoTimeout bounds how long a failed pull may take to undo its steps, which only rename.
const undoTimeout = time.Minute

// flight is a pull that several callers wait for. It ends when it is done, or when the last of them has left.
type flight struct {
	waiting int // guarded by Store.mu
	cancel  context.CancelCauseFunc
	done    chan struct{}
	id      string // set before done is closed, as is err
	err     error
}

// errNobody ends a pull whose callers have all left. Nobody sees it.
var errNobody = errors.New("nobody waits for this pull any more")

// Pull makes the image that the reference names now local, and returns its id. A tag that is local already is asked for
// again; layers that are local already are not. Pulls of the same reference with the same credentials are one.
//
// The errors are those of registry.Client.Resolve, trust.Policy.Verify and Unpacker, errdefs.ErrResourceExhausted where
// the disk is full, and ctx's own.
func (s *Store) Pull(ctx context.Context, r spec.PullRequest) (string, error) {
	ref, err := registry.ParseReference(r.Ref)
	if err != nil {
		return "", err
	}
	if err := s.opts.Policy.Admit(ref.String()); err != nil {
		return "", err
	}
	if ctx.Err() != nil {
		return "", fmt.Errorf("image %q: pull ended: %w", ref, registry.Ended(ctx))
	}
	f, err := s.join(ctx, ref, r)
	if err != nil {
		return "", err
	}
	select {
	case <-f.done:
		s.leave(f)
		return f.id, f.err
	case <-ctx.Done():
		s.leave(f)
		return "", fmt.Errorf("image %q: pull ended: %w", ref, registry.Ended(ctx))
	}
}

// join returns the flight of an equal pull, or starts one.
func (s *Store) join(caller context.Context, ref registry.Reference, r spec.PullRequest) (*flight, error) {
	key := flightKey(ref, r)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life.Err() != nil {
		return nil, errClosed
	}
	if f := s.flights[key]; f != nil && f.waiting > 0 {
		f.waiting++
		return f, nil
	}
	// It ends with the store, not with the caller whose trace it carries.
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(caller))
	alive := context.AfterFunc(s.life, func() { cancel(context.Cause(s.life)) })
	f := &flight{waiting: 1, cancel: cancel, done: make(chan struct{})}
	s.flights[key] = f
	s.work.Add(1)
	s.pulling.Add(1)
	go func() {
		defer s.work.Done()
		defer s.pulling.Add(-1)
		id, err := s.pull(ctx, ref, r.Auth)
		alive()
		cancel(nil)
		s.mu.Lock()
		// A cancelled flight may have a successor by now.
		if s.flights[key] == f {
			delete(s.flights, key)
		}
		s.mu.Unlock()
		f.id, f.err = string(id), err
		close(f.done)
	}()
	return f, nil
}

// leave takes one caller off a flight. The last one ends it; a flight without callers is joined by nobody.
func (s *Store) leave(f *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.waiting--; f.waiting == 0 {
		f.cancel(errNobody)
	}
}

// flightKey is equal for pulls that must have the same outcome. Credentials enter it as a digest.
func flightKey(ref registry.Reference, r spec.PullRequest) string {
	a := r.Auth
	secret, _ := json.Marshal([]string{a.Username, a.Password, a.Auth, a.ServerAddress, a.IdentityToken, a.RegistryToken, r.Namespace})
	return ref.String() + " " + string(content.FromBytes(secret))
}

// pull runs the flow for one flight, and undoes all of it when it fails.
func (s *Store) pull(ctx context.Context, ref registry.Reference, a registry.Auth) (content.Digest, error) {
	p := &puller{Store: s, id: rand.Text(), ref: ref, auth: a}
	s.mu.Lock()
	s.active[p.id] = true
	s.mu.Unlock()
	flow := step.Flow{Name: "pull", ID: p.id, Steps: p.steps(), Observe: s.opts.Observe}
	err := flow.Run(ctx)
	if err != nil {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
		defer cancel()
		if uerr := flow.Teardown(undo); uerr != nil {
			s.opts.Log.Warn("pull is not undone; what it left is thrown away later", "image", ref.String(), "error", uerr)
		}
	}
	p.finish()
	return p.image, p.explain(ctx, err)
}

// explain takes the step's name off an error: the words by which a kubelet knows some of them must stand first.
func (p *puller) explain(ctx context.Context, err error) error {
	var failed *step.Error
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && errors.Is(context.Cause(ctx), errClosed):
		return errClosed
	case errors.As(err, &failed):
		err = failed.Err
	}
	if spec.KindOf(err) == nil {
		return fmt.Errorf("image %q: %w", p.ref, err)
	}
	return err
}
