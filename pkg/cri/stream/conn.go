package stream

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

type connKey struct{}

const (
	// watchTime is how often a connection is looked at, beside what reads and writes tell.
	watchTime = 2 * time.Second
	// pokeTicks is how many looks in a row must find nobody reading.
	pokeTicks = 5
	// lingerTime is how long a client may take to receive the last of what was sent.
	lingerTime = 10 * time.Second
)

var (
	errGone = errors.New("the client is gone")
	errIdle = errors.New("the session carried nothing for too long")
)

// conn is the connection of a session, from the upgrade on. The session's context ends with it.
type conn struct {
	net.Conn
	rest   io.Reader // what was read with the headers, then Conn
	cancel context.CancelCauseFunc
	active atomic.Int64 // when something was carried last, in Unix nanoseconds
	reads  atomic.Int32 // that wait
	poking atomic.Bool

	closing sync.Once
	drained chan struct{} // closed when the connection is
}

func newConn(c net.Conn, buffered *bufio.Reader, cancel context.CancelCauseFunc) *conn {
	n := &conn{Conn: c, cancel: cancel, drained: make(chan struct{})}
	n.rest = io.MultiReader(io.LimitReader(buffered, int64(buffered.Buffered())), c)
	n.touch()
	return n
}

func (c *conn) touch() { c.active.Store(time.Now().UnixNano()) }

// Read tells the session that the client is gone. A client does not close its half of the connection and wait: streams
// have ends of their own.
func (c *conn) Read(b []byte) (int, error) {
	c.reads.Add(1)
	n, err := c.rest.Read(b)
	c.reads.Add(-1)
	if n > 0 {
		c.touch()
	}
	if err != nil {
		c.cancel(errGone)
	}
	return n, err
}

func (c *conn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if n > 0 && !c.poking.Load() {
		c.touch()
	}
	if err != nil {
		c.cancel(errGone)
	}
	return n, err
}

// Close ends what we send, and lets the client take it: a connection that is closed while it holds what nobody has read
// is reset, and its last bytes are lost (tcp(7)). It does not wait.
func (c *conn) Close() error {
	c.closing.Do(func() {
		c.SetDeadline(time.Now().Add(lingerTime))
		go func() {
			defer close(c.drained)
			defer c.Conn.Close()
			if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
				io.Copy(io.Discard, c.Conn)
			}
		}()
	})
	return nil
}

// cut ends the connection at once.
func (c *conn) cut() {
	c.Close()
	c.SetDeadline(time.Unix(1, 0))
}

// watch ends the session when the client is gone or idle. Reads do not always tell: while the program does not take its
// input, nobody reads. Then not even the kernel knows: the client's end waits behind what it has sent. To an answer that
// nobody expects the client's kernel says that it is gone; poke sends one that means nothing. Nil is none.
func (c *conn) watch(ctx context.Context, idle time.Duration, poke func()) {
	tick := time.NewTicker(min(watchTime, max(idle/4, time.Millisecond)))
	defer tick.Stop()
	for unread := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if unread++; c.reads.Load() > 0 {
			unread = 0
		}
		switch {
		case gone(c.Conn):
			c.cancel(errGone)
		case time.Since(time.Unix(0, c.active.Load())) > idle:
			c.cancel(errIdle)
		case unread >= pokeTicks && poke != nil && c.poking.CompareAndSwap(false, true):
			unread = 0
			go func() {
				defer c.poking.Store(false)
				poke()
			}()
		}
	}
}

// gone asks the kernel whether the peer has closed.
func gone(c net.Conn) bool {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if l, ok := c.(*counted); ok {
		c = l.Conn
	}
	sc, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return true
	}
	var info *unix.TCPInfo
	var ierr error
	err = raw.Control(func(fd uintptr) { info, ierr = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
	if err != nil {
		return true
	}
	const closeWait, closed = 8, 7 // TCP_CLOSE_WAIT and TCP_CLOSE, include/net/tcp_states.h
	return ierr == nil && (info.State == closeWait || info.State == closed)
}

// upgrading gives a library a session's connection when it takes the request's over.
type upgrading struct {
	http.ResponseWriter
	cancel context.CancelCauseFunc
	disarm func() bool // lets the connection outlive the session's context

	mu    sync.Mutex
	taken *conn
}

// WriteHeader closes the connection behind whatever is no upgrade: a ticket is one request.
func (u *upgrading) WriteHeader(code int) {
	if code != http.StatusSwitchingProtocols {
		u.Header().Set("Connection", "close")
	}
	u.ResponseWriter.WriteHeader(code)
}

// Hijack implements http.Hijacker.
func (u *upgrading) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	h, ok := u.ResponseWriter.(http.Hijacker)
	if !ok {
		return nil, nil, http.ErrNotSupported
	}
	c, buf, err := h.Hijack()
	if err != nil {
		return nil, nil, err
	}
	c.SetDeadline(time.Time{}) // those of the headers
	n := newConn(c, buf.Reader, u.cancel)
	u.mu.Lock()
	u.taken = n
	u.mu.Unlock()
	return n, bufio.NewReadWriter(bufio.NewReader(n), bufio.NewWriter(n)), nil
}

// conn is nil where there was no upgrade.
func (u *upgrading) conn() *conn {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.taken
}
