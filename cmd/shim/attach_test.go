package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// interactive is a running container with an input.
func interactive(t *testing.T, tty, once bool, args ...string) *container {
	t.Helper()
	c := newHost(t).newPod(true).newContainer(args...)
	c.launch.Stdin, c.launch.StdinOnce, c.launch.TTY = true, once, tty
	c.config.Process.Terminal = tty
	return c.run()
}

func (c *container) attach(ctx context.Context, s spec.Streams) <-chan error {
	done := make(chan error, 1)
	go func() { done <- c.launcher.Attach(ctx, c.launch, s, nil) }()
	return done
}

func TestAttach(t *testing.T) {
	c := interactive(t, false, false, "sh", "-c", "read a; echo $a; echo err >&2; read b; echo $b; exit 3")
	r, w := io.Pipe()
	var out, errs, other screen
	first := c.attach(t.Context(), spec.Streams{Stdin: r, Stdout: &out, Stderr: &errs})
	ctx, leave := context.WithCancel(t.Context())
	second := c.attach(ctx, spec.Streams{Stdout: &other})
	io.WriteString(w, "one\n")
	c.await("the first answer", func() bool { return out.String() == "one\n" && errs.String() == "err\n" })
	leave()
	if err := <-second; !errors.Is(err, context.Canceled) {
		t.Errorf("who left: %v", err)
	}
	w.Close() // not the container's end of input
	third, w3 := io.Pipe()
	var again screen
	last := c.attach(t.Context(), spec.Streams{Stdin: third, Stdout: &again})
	io.WriteString(w3, "two\n")
	for _, e := range []<-chan error{first, last} {
		if err := <-e; err != nil {
			t.Error(err)
		}
	}
	if out.String() != "one\ntwo\n" || again.String() != "two\n" || !strings.HasPrefix("one\n", other.String()) {
		t.Errorf("%q, %q, %q", out.String(), again.String(), other.String())
	}
	if e := c.exit(); e.Code != 3 {
		t.Errorf("%+v", e)
	}
}

func TestAttachStdinOnce(t *testing.T) {
	c := interactive(t, false, true, "cat")
	left := make(chan struct{})
	close(left) // a daemon that leaves is not the end of a session
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c.launcher.Attach(ctx, c.launch, spec.Streams{Stdin: strings.NewReader(""), Stdout: &screen{}}, left)
	var out screen
	if err := <-c.attach(t.Context(), spec.Streams{Stdin: strings.NewReader("all of it\n"), Stdout: &out}); err != nil || out.String() != "all of it\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
	c.exit()
}

// A caller that leaves without an end of file ends the first session too.
func TestAttachStdinOnceCallerLeaves(t *testing.T) {
	c := interactive(t, false, true, "cat")
	r, w := io.Pipe()
	defer w.Close()
	var out screen
	ctx, leave := context.WithCancel(t.Context())
	done := c.attach(ctx, spec.Streams{Stdin: r, Stdout: &out})
	io.WriteString(w, "x\n")
	c.await("the answer", func() bool { return out.String() == "x\n" })
	leave()
	<-done
	c.exit()
}

func TestAttachTerminal(t *testing.T) {
	c := interactive(t, true, true, "sh", "-c", "trap 'stty size' WINCH; echo ready; until read x; do :; done; echo got $x")
	sizes := make(chan spec.TerminalSize)
	r, w := io.Pipe()
	var out screen
	done := c.attach(t.Context(), spec.Streams{Stdin: r, Stdout: &out, Resize: sizes})
	c.await("the trap", func() bool { return strings.Contains(c.log(), "ready") })
	sizes <- spec.TerminalSize{Width: 91, Height: 17}
	c.await("the new size", func() bool { return strings.Contains(c.log(), "17 91") })
	var detached screen
	ctx, leave := context.WithCancel(t.Context())
	gone := c.attach(ctx, spec.Streams{Stdin: strings.NewReader(""), Stdout: &detached})
	leave() // its end of file is nobody's
	<-gone
	io.WriteString(w, "it\n")
	if err := <-done; err != nil || !strings.HasSuffix(out.String(), "it\r\ngot it\r\n") {
		t.Errorf("%q, %v", out.String(), err)
	}
	c.exit()
}

// What a caller has missed is told where it is missing, and in the end.
func TestAttachFallsBehind(t *testing.T) {
	const size = 5_000_000
	c := interactive(t, false, false, "sh", "-c", "read x; yes | head -c 5000000; echo done >&2; read x; echo last")
	r, w := io.Pipe()
	slow, taken := io.Pipe()
	var errs screen
	done := c.attach(t.Context(), spec.Streams{Stdin: r, Stdout: taken, Stderr: &errs})
	io.WriteString(w, "\n")
	c.await("the container to go on", func() bool { return strings.Contains(c.log(), "done") })
	got := make(chan int, 1)
	go func() {
		b, _ := io.ReadAll(slow)
		if !bytes.HasSuffix(b, []byte("y\nlast\n")) {
			t.Errorf("ends with %q", b[max(0, len(b)-10):])
		}
		got <- len(b)
	}()
	c.await("the mark", func() bool { return strings.Contains(errs.String(), "are missing here") })
	io.WriteString(w, "\n")
	err := <-done
	taken.Close()
	if n := <-got; n >= size || !errdefs.IsResourceExhausted(err) || !strings.Contains(err.Error(), "are missing") {
		t.Errorf("%d bytes, %q, %v", n, errs.String(), err)
	}
	c.exit()
}

// A caller whose connection hangs is left behind with ctx, and the container with it.
func TestAttachCallerHangs(t *testing.T) {
	c := interactive(t, false, false, "sh", "-c", "yes | head -c 5000000")
	_, w := io.Pipe()
	ctx, leave := context.WithCancel(t.Context())
	done := c.attach(ctx, spec.Streams{Stdout: w})
	c.exit()
	leave()
	if err := <-done; err == nil {
		t.Error("no error")
	}
}

func TestAttachWhereNothingRuns(t *testing.T) {
	c := interactive(t, false, false, "true")
	c.exit()
	if err := <-c.attach(t.Context(), spec.Streams{Stdout: &screen{}}); !errdefs.IsUnavailable(err) {
		t.Errorf("got %v", err)
	}
}
