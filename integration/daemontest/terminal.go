package daemontest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Terminal is a program in a pseudo-terminal, and the person in front of it.
type Terminal struct {
	t      TB
	cmd    *exec.Cmd
	master *os.File
	before *unix.Termios // of the terminal, before the program ran
	tty    *os.File
	exited chan struct{}

	mu   sync.Mutex
	said []byte // not yet expected
	more chan struct{}
}

// Size of a new terminal.
const (
	Columns = 87
	Rows    = 31
)

// Terminal starts one of the programs in Bin, or any other, in a terminal of its own.
func (d *Daemon) Terminal(program string, args ...string) *Terminal {
	d.t.Helper()
	if path := filepath.Join(d.bin, program); exists(path) {
		program = path
	}
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		d.t.Fatalf("%v", err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		d.t.Fatalf("terminal: %v", err)
	}
	// Fd made it blocking; a reader that waits must end with Close.
	unix.SetNonblock(int(master.Fd()), true)
	master = os.NewFile(uintptr(dup(d.t, master)), "terminal")
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		d.t.Fatalf("%v", err)
	}
	p := &Terminal{t: d.t, master: master, tty: tty, exited: make(chan struct{}), more: make(chan struct{}, 1)}
	p.Resize(Columns, Rows)
	p.before = p.Settings()
	p.cmd = exec.Command(program, args...)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = tty, tty, tty
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := p.cmd.Start(); err != nil {
		d.t.Fatalf("start %s: %v", program, err)
	}
	go func() { p.cmd.Wait(); close(p.exited) }()
	go p.read()
	d.t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.exited
		master.Close()
		tty.Close()
	})
	return p
}

func dup(t TB, f *os.File) int {
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatalf("terminal: %v", err)
	}
	unix.SetNonblock(fd, true)
	return fd
}

func (p *Terminal) read() {
	b := make([]byte, 4096)
	for {
		n, err := p.master.Read(b)
		p.mu.Lock()
		p.said = append(p.said, b[:n]...)
		p.mu.Unlock()
		select {
		case p.more <- struct{}{}:
		default:
		}
		if err != nil && !errors.Is(err, unix.EAGAIN) {
			return
		}
	}
}

// Type types text.
func (p *Terminal) Type(text string) {
	p.t.Helper()
	if _, err := p.master.Write([]byte(text)); err != nil {
		p.t.Fatalf("typing %q: %v", text, err)
	}
}

// Expect waits until the screen has shown text, and takes everything up to there away.
func (p *Terminal) Expect(text string) {
	p.t.Helper()
	end := time.After(Patience)
	for {
		p.mu.Lock()
		i := bytes.Index(p.said, []byte(text))
		if i >= 0 {
			p.said = p.said[i+len(text):]
		}
		said := string(p.said)
		p.mu.Unlock()
		if i >= 0 {
			return
		}
		select {
		case <-p.more:
		case <-end:
			p.t.Fatalf("%q was not shown; what was: %q", text, said)
		}
	}
}

// Screen is what was shown since the last text that was expected.
func (p *Terminal) Screen() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.said)
}

// Resize is what a window does.
func (p *Terminal) Resize(columns, rows uint16) {
	p.t.Helper()
	if err := unix.IoctlSetWinsize(int(p.tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: rows}); err != nil {
		p.t.Fatalf("resize: %v", err)
	}
}

// Settings are those of the terminal as they are.
func (p *Terminal) Settings() *unix.Termios {
	p.t.Helper()
	s, err := unix.IoctlGetTermios(int(p.tty.Fd()), unix.TCGETS)
	if err != nil {
		p.t.Fatalf("settings: %v", err)
	}
	return s
}

// Signal sends the program a signal.
func (p *Terminal) Signal(s os.Signal) { p.cmd.Process.Signal(s) }

// Wait returns the program's exit code, 128+n for signal n. The terminal must be as the program found it.
func (p *Terminal) Wait() int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(Patience):
		p.t.Fatalf("the program runs on; the screen shows %q", p.Screen())
	}
	if now := p.Settings(); *now != *p.before {
		p.t.Errorf("the terminal was left with other settings: %+v, %+v before", *now, *p.before)
	}
	if s := p.cmd.ProcessState.Sys().(syscall.WaitStatus); s.Signaled() {
		return 128 + int(s.Signal())
	}
	return p.cmd.ProcessState.ExitCode()
}

// CrictlArgs are the arguments that lead crictl to the daemon.
func (d *Daemon) CrictlArgs(args ...string) []string {
	endpoint := "unix://" + d.Layout.Socket()
	return append([]string{"--config", "/dev/null", "--runtime-endpoint", endpoint, "--image-endpoint", endpoint, "--timeout", "30s"}, args...)
}

// CLIArgs are the arguments that lead runtimed to the daemon.
func (d *Daemon) CLIArgs(args ...string) []string {
	return append([]string{"--config", d.ConfigFile}, args...)
}
