package process

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func start(t *testing.T) (*exec.Cmd, spec.Process) {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	boot, err := BootID()
	if err != nil {
		t.Fatal(err)
	}
	p, err := Identify(cmd.Process.Pid, boot)
	if err != nil {
		t.Fatal(err)
	}
	return cmd, p
}

func TestWaitReturnsWhenTheProcessEnds(t *testing.T) {
	_, p := start(t)
	h, err := Open(p)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if h.Ended() {
		t.Fatal("a running process is said to have ended")
	}
	var waiter sync.WaitGroup
	waiter.Go(func() {
		if err := h.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	})
	if err := h.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waiter.Wait()
	if !h.Ended() {
		t.Error("the process has ended, and Ended says no")
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	_, p := start(t)
	h, err := Open(p)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	why := errors.New("enough")
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Millisecond, why)
	defer cancel()
	if err := h.Wait(ctx); !errors.Is(err, why) {
		t.Errorf("got %v, want the context's cause", err)
	}
	h.Signal(unix.SIGKILL)
	if err := h.Wait(t.Context()); err != nil {
		t.Errorf("a handle whose wait was given up must wait again: %v", err)
	}
}

func TestOpenRefusesAnotherProcessWithTheSamePID(t *testing.T) {
	cmd, p := start(t)
	p.StartTicks++
	if _, err := Open(p); !errors.Is(err, ErrGone) {
		t.Errorf("got %v, want ErrGone", err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	p.StartTicks--
	if _, err := Open(p); !errors.Is(err, ErrGone) {
		t.Errorf("got %v, want ErrGone for a process that was reaped", err)
	}
	if _, err := Open(spec.Process{}); !errors.Is(err, ErrGone) {
		t.Errorf("got %v, want ErrGone for no process", err)
	}
}

func TestSignalAfterTheEnd(t *testing.T) {
	cmd, p := start(t)
	h, err := Open(p)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	cmd.Process.Kill()
	cmd.Wait()
	if err := h.Signal(unix.SIGTERM); !errors.Is(err, ErrGone) {
		t.Errorf("got %v, want ErrGone", err)
	}
}

func TestParseStartTicks(t *testing.T) {
	for _, c := range []struct {
		name, stat string
		want       uint64
		bad        bool
	}{
		{"plain", "1 (a) S 0 1 1 0 -1 4194560 1 1 1 1 1 1 1 1 20 0 1 0 777 1 1", 777, false},
		{"a name that looks like the rest", "1 (a) S 1) ) S 0 1 1 0 -1 4194560 1 1 1 1 1 1 1 1 20 0 1 0 778 1 1", 778, false},
		{"no name", "1 a S 0", 0, true},
		{"short", "1 (a) S 0 1", 0, true},
		{"not a number", "1 (a) S 0 1 1 0 -1 4194560 1 1 1 1 1 1 1 1 20 0 1 0 x 1 1", 0, true},
		{"empty", "", 0, true},
	} {
		got, err := parseStartTicks([]byte(c.stat))
		if got != c.want || (err != nil) != c.bad {
			t.Errorf("%s: %d, %v", c.name, got, err)
		}
	}
}

func FuzzParseStartTicks(f *testing.F) {
	own, _ := os.ReadFile("/proc/self/stat")
	f.Add(own)
	f.Add([]byte("1 (a) S"))
	f.Fuzz(func(t *testing.T, b []byte) { parseStartTicks(b) })
}
