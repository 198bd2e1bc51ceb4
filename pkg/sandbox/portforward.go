package sandbox

import (
	"context"
	"errors"
	"io"
	"net"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// PortForward connects conn with a TCP port on the loopback of a READY sandbox: 127.0.0.1, or else ::1, in the pod's
// network namespace or the node's. An end of one direction is passed on and leaves the other alone. It returns when both
// have ended, nil, or when ctx ends, or when the pod breaks the connection off; conn is closed then. A read of conn that
// is in progress and that Close does not end is the caller's to end.
//
// Where conn has CloseWrite, that passes the pod's end of file on; Close does otherwise, which ends one direction of a
// SPDY stream.
func (r *Runtime) PortForward(ctx context.Context, sandboxID string, port uint16, conn io.ReadWriteCloser) error {
	defer conn.Close()
	p, err := r.findPod(sandboxID)
	if err != nil {
		return err
	}
	if port == 0 {
		return spec.Invalidf("port 0 of sandbox %s cannot be connected to", p.spec.ID)
	}
	if err := r.mustBeReady(p); err != nil {
		return err
	}
	netns := ""
	if ownNetwork(p.spec) {
		netns = r.Layout.NetnsPin(p.spec.ID)
	}
	ctx, cancel := until(ctx, p.stopping, spec.Preconditionf("sandbox %s is being stopped", p.spec.ID))
	defer cancel()
	pod, err := r.Dialer.Dial(ctx, netns, port)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	if err != nil {
		return spec.Errorf(errdefs.ErrUnavailable, "port %d of sandbox %s: %w", port, p.spec.ID, err)
	}
	defer pod.Close()
	if err := carry(ctx, conn, pod); err != nil {
		return spec.Errorf(errdefs.ErrUnavailable, "port %d of sandbox %s: %w", port, p.spec.ID, err)
	}
	return context.Cause(ctx)
}

// carry copies both ways. Its error is the pod's: why it broke the connection off.
func carry(ctx context.Context, caller io.ReadWriteCloser, pod net.Conn) error {
	stop := context.AfterFunc(ctx, func() { pod.Close() })
	defer stop()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		io.Copy(pod, caller) // a pod that takes no more may still have something to say
		closeWrite(pod)
	}()
	// Without their shortcuts, which hide whose error it is.
	_, err := io.Copy(struct{ io.Writer }{caller}, struct{ io.Reader }{pod})
	if ctx.Err() != nil {
		return nil
	}
	if broken := (*net.OpError)(nil); errors.As(err, &broken) && broken.Op == "read" {
		return broken.Err
	}
	if err != nil {
		return nil // the caller left
	}
	closeWrite(caller)
	select {
	case <-sent:
	case <-ctx.Done():
	}
	return nil
}

func closeWrite(c io.Closer) {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
		return
	}
	c.Close()
}
