package launch

import (
	"os"
	"sync"
	"time"
)

const (
	// maxStream is what is kept of one stream of an exec session, in bytes; what follows is read and dropped.
	maxStream = 16 << 20
	// smallStream is what any session may keep; above it, at most largeSessions sessions at a time do, and others are
	// not read until one of these has ended. So output takes 256 MiB of the daemon at most, however many probes run.
	smallStream   = 64 << 10
	largeSessions = 8
)

// room is one session's right to more than smallStream a stream. Both streams share it: if each waited for its own,
// sessions could wait for each other.
type room struct {
	slots chan struct{}
	mu    sync.Mutex
	has   bool
	users int
}

// enter waits for the right, or until quit is closed.
func (r *room) enter(quit <-chan struct{}) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.has {
		select {
		case r.slots <- struct{}{}:
			r.has = true
		case <-quit:
			return false
		}
	}
	return true
}

func (r *room) add() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.users++
}

// leave gives the right back with the session's last stream.
func (r *room) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.users--; r.users == 0 && r.has {
		<-r.slots
		r.has = false
	}
}

// collector reads a stream to its end.
type collector struct {
	from *os.File
	done chan struct{}
	quit chan struct{}
	once sync.Once
	kept []byte
}

func collect(from *os.File, r *room) *collector {
	c := &collector{from: from, done: make(chan struct{}), quit: make(chan struct{})}
	r.add()
	go func() {
		defer close(c.done)
		defer from.Close()
		defer r.leave()
		c.run(r)
	}()
	return c
}

func (c *collector) run(r *room) {
	b := make([]byte, 32<<10)
	for {
		n, err := c.from.Read(b)
		if n > 0 && len(c.kept)+n > smallStream && len(c.kept) < maxStream && !r.enter(c.quit) {
			return
		}
		c.kept = append(c.kept, b[:min(n, maxStream-len(c.kept))]...)
		if err != nil {
			return
		}
	}
}

// stop ends the reading soon.
func (c *collector) stop() {
	c.once.Do(func() {
		close(c.quit)
		c.from.SetReadDeadline(time.Unix(1, 0))
	})
}

// bytes are what was kept. Only after done.
func (c *collector) bytes() []byte {
	if c == nil {
		return nil
	}
	<-c.done
	return c.kept
}
