package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// screen is a caller's output that a test can wait for.
type screen struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func (c *container) stream(ctx context.Context, s spec.Streams, args ...string) (int32, error) {
	return c.launcher.Stream(ctx, c.launch, spec.StreamRequest{ContainerID: c.launch.ContainerID, Command: args, Streams: s})
}

func TestStream(t *testing.T) {
	c := runningContainer(t, nil)
	for _, e := range []struct {
		in, out, errors string
		code            int32
		args            []string
	}{
		{"", "", "", 0, []string{"true"}},
		{"a\nb\n", "a\nb\n", "", 0, []string{"cat"}}, // ends by the caller's end of file
		{"", "out\n", "err\n", 3, []string{"sh", "-c", "cat; echo out; echo err >&2; exit 3"}},
		{"x", "", "", 143, []string{"sh", "-c", "kill -TERM $$"}},
		{"never read", "", "exec: \"nope\": executable file not found in $PATH\n", 127, []string{"nope"}},
		{"", "", "exec: \"/etc\": is a directory\n", 126, []string{"/etc"}},
		{"", "not a tty\n", "", 1, []string{"tty"}},
	} {
		var out, errs screen
		code, err := c.stream(t.Context(), spec.Streams{Stdin: strings.NewReader(e.in), Stdout: &out, Stderr: &errs}, e.args...)
		if err != nil || code != e.code || out.String() != e.out || errs.String() != e.errors {
			t.Errorf("%q: got %q, %q, %d, %v", e.args, out.String(), errs.String(), code, err)
		}
	}
	wantNoSession(t, c, 1)
}

// Streams that nobody wants are /dev/null, or drained: nothing hangs.
func TestStreamWithout(t *testing.T) {
	c := runningContainer(t, nil)
	code, err := c.stream(t.Context(), spec.Streams{}, "sh", "-c", "cat; yes | head -c 1000000; exit 4")
	if err != nil || code != 4 {
		t.Errorf("no streams: %d, %v", code, err)
	}
	var errs screen
	code, err = c.stream(t.Context(), spec.Streams{Stderr: &errs}, "sh", "-c", "echo out; echo err >&2")
	if err != nil || code != 0 || errs.String() != "err\n" {
		t.Errorf("stderr alone: %q, %d, %v", errs.String(), code, err)
	}
	code, err = c.stream(t.Context(), spec.Streams{Stdout: brokenWriter{}}, "sh", "-c", "yes | head -c 1000000; exit 5")
	if err != nil || code != 5 {
		t.Errorf("a writer that fails: %d, %v", code, err)
	}
	wantNoSession(t, c, 1)
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("gone") }

// Many megabytes go in and come back, both ways at once, and nothing is lost.
func TestStreamCarriesMuch(t *testing.T) {
	c := runningContainer(t, nil)
	in := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	var out screen
	code, err := c.stream(t.Context(), spec.Streams{Stdin: bytes.NewReader(in), Stdout: &out}, "cat")
	if err != nil || code != 0 || out.String() != string(in) {
		t.Errorf("%d of %d bytes, %d, %v", len(out.String()), len(in), code, err)
	}
}

// A command that does not read its input does not wait for it.
func TestStreamInputIsNotRead(t *testing.T) {
	c := runningContainer(t, nil)
	r, w := io.Pipe()
	defer w.Close()
	code, err := c.stream(t.Context(), spec.Streams{Stdin: r}, "sh", "-c", "exit 6")
	if err != nil || code != 6 {
		t.Errorf("%d, %v", code, err)
	}
	wantNoSession(t, c, 1)
}

// What a slow caller has not taken when the command ends is not lost.
func TestStreamSlowCaller(t *testing.T) {
	c := runningContainer(t, nil)
	r, w := io.Pipe()
	var got []byte
	read := make(chan struct{})
	go func() {
		defer close(read)
		c.await("the command's end", func() bool { return len(groupPids(c.launch.CgroupPath)) == 1 })
		time.Sleep(1500 * time.Millisecond) // above the time that background processes get
		got, _ = io.ReadAll(r)
	}()
	code, err := c.stream(t.Context(), spec.Streams{Stdout: w}, "sh", "-c", "yes | head -c 60000")
	w.Close()
	<-read
	if err != nil || code != 0 || len(got) != 60000 {
		t.Errorf("%d bytes, %d, %v", len(got), code, err)
	}
}

func TestStreamBackground(t *testing.T) {
	c := runningContainer(t, nil)
	var out screen
	code, err := c.stream(t.Context(), spec.Streams{Stdout: &out}, "sh", "-c", "echo begun; sleep 90001 & exit 4")
	if err != nil || code != 4 || out.String() != "begun\n" {
		t.Errorf("%q, %d, %v", out.String(), code, err)
	}
	wantNoSession(t, c, 2)
}

// The caller leaves: the whole tree ends, with and without a terminal.
func TestStreamCallerLeaves(t *testing.T) {
	c := runningContainer(t, nil)
	for _, tty := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		r, w := io.Pipe()
		var out screen
		go func() {
			c.await("the command", func() bool { return strings.Contains(out.String(), "begun") })
			cancel()
		}()
		_, err := c.stream(ctx, spec.Streams{Stdin: r, Stdout: &out, TTY: tty}, "sh", "-c", "trap '' HUP TERM; setsid sleep 90001 & echo begun; sleep 90002")
		if !errors.Is(err, context.Canceled) {
			t.Errorf("tty %v: got %v", tty, err)
		}
		w.Close()
		cancel()
		wantNoSession(t, c, 1)
	}
}

// A caller that takes nothing any more and then leaves holds nobody up.
func TestStreamCallerHangsAndLeaves(t *testing.T) {
	c := runningContainer(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	defer r.Close()
	go func() {
		r.Read(make([]byte, 1))
		cancel()
	}()
	if _, err := c.stream(ctx, spec.Streams{Stdout: w}, "yes"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	wantNoSession(t, c, 1)
}

func TestStreamWhereNothingRuns(t *testing.T) {
	c := newHost(t).newPod(true).newContainer("true")
	c.write()
	must(t, c.start(t.Context()))
	c.exit()
	for _, tty := range []bool{false, true} {
		_, err := c.stream(t.Context(), spec.Streams{TTY: tty}, "true")
		if spec.KindOf(err) != errdefs.ErrFailedPrecondition || !strings.Contains(err.Error(), "stopped, not running") {
			t.Errorf("tty %v: %v", tty, err)
		}
	}
}

// The terminal is the container's own, belongs to its user, and has its size before the command runs.
func TestStreamTerminal(t *testing.T) {
	c := runningContainer(t, func(k *container) { k.config.Process.User = specs.User{UID: 1000, GID: 1001} })
	sizes := make(chan spec.TerminalSize, 1)
	sizes <- spec.TerminalSize{Width: 101, Height: 37}
	var out screen
	code, err := c.stream(t.Context(), spec.Streams{Stdout: &out, TTY: true, Resize: sizes},
		"sh", "-c", "stty size; stat -c %u $(tty); tty; test -t 0 && test -t 1 && test -t 2 && echo all; echo err >&2; exit 9")
	want := "37 101\r\n1000\r\n/dev/pts/0\r\nall\r\nerr\r\n"
	if err != nil || code != 9 || out.String() != want {
		t.Errorf("%q, %d, %v", out.String(), code, err)
	}
	wantNoSession(t, c, 1)
}

func TestStreamTerminalResize(t *testing.T) {
	c := runningContainer(t, nil)
	sizes := make(chan spec.TerminalSize)
	r, w := io.Pipe()
	var out screen
	go func() {
		c.await("the command", func() bool { return strings.Contains(out.String(), "ready") })
		sizes <- spec.TerminalSize{Width: 132, Height: 43}
		c.await("the change", func() bool { return strings.Contains(out.String(), "43 132") })
		close(sizes)
		io.WriteString(w, "done\n")
	}()
	code, err := c.stream(t.Context(), spec.Streams{Stdin: r, Stdout: &out, TTY: true, Resize: sizes},
		"sh", "-c", "trap 'stty size' WINCH; echo ready; until read x; do :; done; echo $x")
	if err != nil || code != 0 || !strings.HasSuffix(out.String(), "done\r\ndone\r\n") {
		t.Errorf("%q, %d, %v", out.String(), code, err)
	}
}

// The caller's end of file is one for who reads the terminal.
func TestStreamTerminalEnd(t *testing.T) {
	c := runningContainer(t, nil)
	var out screen
	code, err := c.stream(t.Context(), spec.Streams{Stdin: strings.NewReader("a\n"), Stdout: &out, TTY: true}, "cat")
	if err != nil || code != 0 || out.String() != "a\r\na\r\n" {
		t.Errorf("%q, %d, %v", out.String(), code, err)
	}
}

func TestStreamTerminalRefused(t *testing.T) {
	c := runningContainer(t, nil)
	for range 10 {
		r, w := io.Pipe()
		var out screen
		code, err := c.stream(t.Context(), spec.Streams{Stdin: r, Stdout: &out, TTY: true}, "nope")
		if err != nil || code != 127 || out.String() != "exec: \"nope\": executable file not found in $PATH\r\n" {
			t.Errorf("%q, %d, %v", out.String(), code, err)
		}
		w.Close()
	}
	wantNoSession(t, c, 1)
}

// What a command leaves on its terminal gets a hang-up a second later, as on any terminal.
func TestStreamTerminalBackground(t *testing.T) {
	c := runningContainer(t, nil)
	var out screen
	code, err := c.stream(t.Context(), spec.Streams{Stdout: &out, TTY: true}, "sh", "-c", "trap '' HUP; sleep 90001 & echo begun; exit 4")
	if err != nil || code != 4 || out.String() != "begun\r\n" {
		t.Errorf("%q, %d, %v", out.String(), code, err)
	}
	wantNoSession(t, c, 2)
}

// A stage that is killed takes its session along, and the caller hears of it.
func TestStreamStageIsKilled(t *testing.T) {
	c := runningContainer(t, nil)
	for _, tty := range []bool{false, true} {
		var out screen
		go func() {
			c.await("the command", func() bool { return strings.Contains(out.String(), "begun") })
			for _, pid := range stages(t, c) {
				unix.Kill(pid, unix.SIGKILL)
			}
		}()
		_, err := c.stream(t.Context(), spec.Streams{Stdout: &out, TTY: tty}, "sh", "-c", "setsid sleep 90001 & echo begun; sleep 90002")
		if spec.KindOf(err) != errdefs.ErrUnavailable {
			t.Errorf("tty %v: got %v", tty, err)
		}
		wantNoSession(t, c, 1)
	}
}

// stages are the exec stages of a container that this process has.
func stages(t *testing.T, c *container) (pids []int) {
	t.Helper()
	for _, pid := range children(t) {
		b, _ := os.ReadFile(filepath.Join("/proc", pid, "cmdline"))
		if strings.Contains(string(b), "\x00exec\x00"+c.dir()) {
			pids = append(pids, atoi(pid))
		}
	}
	return pids
}
