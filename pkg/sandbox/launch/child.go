package launch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/process"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// child is a process that this daemon started and will reap.
type child struct {
	handle *process.Handle
	done   chan struct{} // closed when it was reaped
	status syscall.WaitStatus
	// complaints is what it wrote to its stderr: a panic, or what an undo left.
	complaints *tail
}

// startChild starts the program with files as its descriptors from 3 on. They stay the caller's to close. A shim is in
// a session of its own: a terminal's signals to the daemon do not reach it.
func startChild(program string, args []string, flags uintptr, files ...*os.File) (*child, error) {
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	r, w, err := pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	p, err := os.StartProcess(program, append([]string{program}, args...), &os.ProcAttr{
		Dir:   "/",
		Env:   []string{"GOMAXPROCS=1"}, // a shim is one flow: more threads cost more than they bring
		Files: append([]*os.File{null, null, w}, files...),
		Sys:   &syscall.SysProcAttr{Cloneflags: flags, Setsid: true},
	})
	if err != nil {
		r.Close()
		return nil, err
	}
	defer p.Release()
	// Not reaped yet, so the pid is its own.
	h, err := process.Open(spec.Process{PID: p.Pid})
	if err != nil {
		r.Close()
		p.Kill()
		p.Wait()
		return nil, err
	}
	c := &child{handle: h, done: make(chan struct{}), complaints: &tail{}}
	c.complaints.follow(r)
	go c.reap()
	return c, nil
}

func (c *child) reap() {
	defer close(c.done)
	defer c.handle.Close()
	c.handle.Wait(context.Background())
	for {
		_, err := syscall.Wait4(c.handle.PID(), &c.status, 0, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

func (c *child) kill() { c.handle.Signal(unix.SIGKILL) }

// ended describes an end, for a person. Only after done.
func (c *child) ended() string {
	text := fmt.Sprintf("exit code %d", c.status.ExitStatus())
	if c.status.Signaled() {
		text = "signal " + c.status.Signal().String()
	}
	if said := c.complaints.text(); said != "" {
		text += ": " + said
	}
	return text
}

// killWithin kills the process if it has not ended within d, and returns when it was reaped.
func (c *child) killWithin(d time.Duration) {
	select {
	case <-c.done:
		return
	case <-time.After(d):
	}
	c.kill()
	<-c.done
}

// tail keeps the beginning of what a child complains about.
type tail struct {
	mu   sync.Mutex
	kept []byte
	over chan struct{}
}

const maxComplaints = 4096

func (t *tail) follow(r *os.File) {
	t.over = make(chan struct{})
	go func() {
		defer close(t.over)
		defer r.Close()
		b := make([]byte, 1024)
		for {
			n, err := r.Read(b)
			t.mu.Lock()
			t.kept = append(t.kept, b[:min(n, maxComplaints-len(t.kept))]...)
			t.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
}

// text is all of it once the child has ended.
func (t *tail) text() string {
	select {
	case <-t.over:
	case <-time.After(time.Second): // somebody inherited it
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(strings.ToValidUTF8(string(t.kept), "\ufffd"))
}

// pipe makes a pipe whose read end the runtime can poll, and whose write end, for a child, blocks.
func pipe() (r, w *os.File, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, os.NewSyscallError("pipe", err)
	}
	if err := unix.SetNonblock(p[0], true); err != nil {
		unix.Close(p[0])
		unix.Close(p[1])
		return nil, nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(p[0]), "pipe"), os.NewFile(uintptr(p[1]), "pipe"), nil
}

// pipeTo is pipe for the other direction: the write end can be polled.
func pipeTo() (r, w *os.File, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, os.NewSyscallError("pipe", err)
	}
	if err := unix.SetNonblock(p[1], true); err != nil {
		unix.Close(p[0])
		unix.Close(p[1])
		return nil, nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(p[0]), "pipe"), os.NewFile(uintptr(p[1]), "pipe"), nil
}

// closeAll closes what was made.
func closeAll(files ...*os.File) {
	for _, f := range files {
		f.Close() // of a nil file: an error, and no harm
	}
}
