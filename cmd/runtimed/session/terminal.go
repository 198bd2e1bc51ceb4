package session

import (
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/term"

	"github.com/runtimed/runtimed/pkg/cri/control/controlpb"
)

// Terminal is the user's, in raw mode: what is typed is the other side's to interpret.
type Terminal struct {
	fd      int
	before  *term.State
	restore sync.Once
}

// Raw puts the terminal that f is into raw mode, until Restore. It is nil where f is no terminal.
func Raw(f io.Reader) (*Terminal, error) {
	file, ok := f.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return nil, nil
	}
	before, err := term.MakeRaw(int(file.Fd()))
	if err != nil {
		return nil, err
	}
	return &Terminal{fd: int(file.Fd()), before: before}, nil
}

// Restore gives the terminal its settings back. It may be called more than once, and on nil.
func (t *Terminal) Restore() {
	if t != nil {
		t.restore.Do(func() { term.Restore(t.fd, t.before) })
	}
}

// Size of the window; nil where there is none.
func (t *Terminal) Size() *controlpb.TerminalSize {
	if t == nil {
		return nil
	}
	w, h, err := term.GetSize(t.fd)
	if err != nil || w < 1 || h < 1 {
		return nil
	}
	return &controlpb.TerminalSize{Width: uint32(w), Height: uint32(h)}
}

// resizes calls f with each new size until stop is called.
func (t *Terminal) resizes(f func(*controlpb.TerminalSize)) (stop func()) {
	if t == nil {
		return func() {}
	}
	changed, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(changed, syscall.SIGWINCH)
	go func() {
		for {
			select {
			case <-changed:
				if size := t.Size(); size != nil {
					f(size)
				}
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(changed)
		close(done)
	}
}
