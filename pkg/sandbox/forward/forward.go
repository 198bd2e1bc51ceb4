package forward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Patience is how long one address may take to accept. Loopback answers at once; a pod's own packet filter may drop.
const Patience = 10 * time.Second

// Dialer connects to pods' ports.
type Dialer struct{}

// Dial connects to the port on 127.0.0.1, or else on ::1, in the network namespace that is bound at the path; "" is the
// daemon's own. The error names what both addresses said.
func (Dialer) Dial(ctx context.Context, netns string, port uint16) (net.Conn, error) {
	conn, err4 := dial(ctx, netns, &unix.SockaddrInet4{Port: int(port), Addr: [4]byte{127, 0, 0, 1}})
	if err4 == nil {
		return conn, nil
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	conn, err6 := dial(ctx, netns, &unix.SockaddrInet6{Port: int(port), Addr: [16]byte{15: 1}})
	switch {
	case err6 == nil:
		return conn, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err6, err4) || noIPv6(err6):
		return nil, err4
	}
	return nil, fmt.Errorf("127.0.0.1: %w; ::1: %w", err4, err6)
}

// noIPv6: the pod has none, so what IPv4 said counts.
func noIPv6(err error) bool {
	return errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENETUNREACH)
}

func dial(ctx context.Context, netns string, to unix.Sockaddr) (net.Conn, error) {
	family := unix.AF_INET
	if _, ok := to.(*unix.SockaddrInet6); ok {
		family = unix.AF_INET6
	}
	fd, err := socketIn(netns, family)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	if err := connect(ctx, f, to); err != nil {
		return nil, err
	}
	return net.FileConn(f) // a duplicate
}

// connect waits for the other side.
func connect(ctx context.Context, f *os.File, to unix.Sockaddr) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	if e := raw.Control(func(fd uintptr) { err = unix.Connect(int(fd), to) }); e != nil {
		return e
	}
	if !errors.Is(err, unix.EINPROGRESS) {
		return err
	}
	f.SetWriteDeadline(time.Now().Add(Patience))
	stop := context.AfterFunc(ctx, func() { f.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	e := raw.Write(func(fd uintptr) (done bool) {
		if done, err = connected(int(fd)); !done {
			err = unix.EINPROGRESS
		}
		return done
	})
	if errors.Is(e, os.ErrDeadlineExceeded) {
		return unix.ETIMEDOUT
	}
	return errors.Join(e, err)
}

// connected tells whether a connection has been made, or has failed.
func connected(fd int) (bool, error) {
	n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return true, err
	}
	if n != 0 {
		return true, unix.Errno(n)
	}
	_, err = unix.Getpeername(fd)
	return err == nil, nil
}

// socketIn makes a socket in a network namespace. The thread that went there comes back, or ends.
func socketIn(netns string, family int) (fd int, err error) {
	const kind = unix.SOCK_STREAM | unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC
	if netns == "" {
		return unix.Socket(family, kind, 0)
	}
	there, err := os.OpenFile(netns, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	defer there.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		var here *os.File
		if here, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			runtime.UnlockOSThread()
			return
		}
		defer here.Close()
		if err = unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
			err = os.NewSyscallError("setns", err)
			runtime.UnlockOSThread()
			return
		}
		fd, err = unix.Socket(family, kind, 0)
		if unix.Setns(int(here.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
	}()
	<-done
	return fd, err
}
