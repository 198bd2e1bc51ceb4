package fake

import (
	"context"
	"io"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Streams are sessions that give back what they are sent. It implements what pkg/cri/stream and pkg/cri/control need.
type Streams struct {
	*Runtime
	// OnExec, OnAttach and OnPortForward answer in the place of the echo. Nil is the echo.
	OnExec        func(ctx context.Context, r spec.StreamRequest) (int32, error)
	OnAttach      func(ctx context.Context, id string, s spec.Streams) error
	OnPortForward func(ctx context.Context, id string, port uint16, conn io.ReadWriteCloser) error
}

// Exec needs a running container.
func (s *Streams) Exec(ctx context.Context, r spec.StreamRequest) (int32, error) {
	if s.Runtime != nil {
		if err := s.with(ctx, "Exec", r.ContainerID, running); err != nil {
			return 0, err
		}
	}
	if s.OnExec != nil {
		return s.OnExec(ctx, r)
	}
	return 0, echo(ctx, r.Streams)
}

// Attach needs a running container.
func (s *Streams) Attach(ctx context.Context, id string, st spec.Streams) error {
	if s.Runtime != nil {
		if err := s.with(ctx, "Attach", id, running); err != nil {
			return err
		}
	}
	if s.OnAttach != nil {
		return s.OnAttach(ctx, id, st)
	}
	return echo(ctx, st)
}

// PortForward needs a sandbox.
func (s *Streams) PortForward(ctx context.Context, id string, port uint16, conn io.ReadWriteCloser) error {
	if s.Runtime != nil {
		if _, err := s.Sandbox(ctx, id); err != nil {
			return err
		}
	}
	if s.OnPortForward != nil {
		return s.OnPortForward(ctx, id, port, conn)
	}
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(conn, conn)
		conn.Close()
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// echo returns at the input's end, or when ctx does.
func echo(ctx context.Context, s spec.Streams) error {
	if s.Stdin == nil || s.Stdout == nil {
		return nil
	}
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(s.Stdout, s.Stdin)
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
