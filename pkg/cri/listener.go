package cri

import (
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Listen makes the socket, mode 0600, in a directory that must be its owner's alone (0700). A socket that nobody
// listens on is replaced; one that answers, or a file of another kind, refuses. Connections of processes whose user is
// not among allowed are closed before a byte is read (SO_PEERCRED, unix(7)); the ids are the node's.
func Listen(path string, allowed []uint32, log *slog.Logger) (net.Listener, error) {
	if err := clear(path); err != nil {
		return nil, err
	}
	// Bound beside its place, and moved there when its mode is right: there is no moment at which others can connect.
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, spec.Errorf(errdefs.ErrUnavailable, "socket %s: %w", path, err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return nil, spec.Errorf(errdefs.ErrUnavailable, "socket %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false)
	err = os.Chmod(fresh, 0o600)
	if err == nil {
		err = os.Rename(fresh, path)
	}
	if err != nil {
		l.Close()
		return nil, spec.Errorf(errdefs.ErrUnavailable, "socket %s: %w", path, err)
	}
	return &listener{UnixListener: l, path: path, allowed: allowed, log: log}, nil
}

// clear removes a socket that a daemon left behind.
func clear(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return spec.Errorf(errdefs.ErrUnavailable, "socket %s: %w", path, err)
	case info.Mode().Type() != fs.ModeSocket:
		return spec.Preconditionf("socket %s: something else has this name (%s); remove it, or choose another run directory", path, info.Mode())
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return spec.Errorf(errdefs.ErrAlreadyExists, "socket %s: another process answers there", path)
	}
	if err := os.Remove(path); err != nil {
		return spec.Errorf(errdefs.ErrUnavailable, "socket %s: %w", path, err)
	}
	return nil
}

type listener struct {
	*net.UnixListener
	path    string
	allowed []uint32
	log     *slog.Logger
}

// Accept returns the next connection of a user that is allowed.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		peer, err := peerOf(c)
		if err == nil && slices.Contains(l.allowed, peer.Uid) {
			return c, nil
		}
		if err != nil {
			l.log.Warn("a connection is refused: its user is unknown", "error", err)
		} else {
			l.log.Warn("a connection is refused: its user is not among socket.allowed_uids", "uid", peer.Uid, "pid", peer.Pid)
		}
		c.Close()
	}
}

// Close stops listening and removes the socket.
func (l *listener) Close() error {
	err := l.UnixListener.Close()
	if err == nil {
		os.Remove(l.path)
	}
	return err
}

func peerOf(c *net.UnixConn) (*unix.Ucred, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var peer *unix.Ucred
	var perr error
	if err := raw.Control(func(fd uintptr) {
		peer, perr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return nil, err
	}
	return peer, perr
}
