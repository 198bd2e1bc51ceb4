package plugin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"
)

func program(t *testing.T, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "p")
	if err := os.WriteFile(path+".new", []byte("#!/bin/sh\n"+body), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return path
}

func run(t *testing.T, limit time.Duration, body string, environ ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	e := &Exec{Daemon: t.TempDir()}
	t.Cleanup(func() {
		if n := EndStrays(e.Daemon, func(Stray) bool { return true }); n > 0 && !strings.Contains(body, "stays") {
			t.Errorf("%q left %d processes", body, n)
		}
	})
	out, err := e.ExecPlugin(ctx, program(t, body), []byte("input"), append(environ, "PATH="+os.Getenv("PATH"), "CNI_COMMAND=ADD"))
	return string(out), err
}

func TestRun(t *testing.T) {
	out, err := run(t, time.Minute, `cat; echo; env`, "CNI_CONTAINERID=c", "NOTIFY_SOCKET=/x", "LISTEN_FDS=1", "RUNTIMED_CNI=/forged", "HTTP_PROXY=p")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"input\n", "CNI_CONTAINERID=c\n", "HTTP_PROXY=p\n", "RUNTIMED_CNI_RUN="} {
		if !strings.Contains(out, want) {
			t.Errorf("%q lacks %q", out, want)
		}
	}
	for _, not := range []string{"NOTIFY_SOCKET", "LISTEN_FDS", "/forged"} {
		if strings.Contains(out, not) {
			t.Errorf("%q has %q", out, not)
		}
	}
}

func TestFailures(t *testing.T) {
	for body, c := range map[string]struct {
		code uint
		says string
	}{
		`echo '{"code":7,"msg":"m","details":"d"}'; exit 1`: {7, `plugin p (ADD): "m: d"`},
		`echo '{"code":7}'; exit 1`:                         {7, `plugin p (ADD): ""`},
		`echo out; echo err >&2; exit 2`:                    {999, `ended with "exit status 2" and said "err"`},
		`echo out; exit 2`:                                  {999, `said "out"`},
		`exit 2`:                                            {999, `said ""`},
		`printf '\377\033[2J' >&2; exit 2`:                  {999, `said "�\x1b[2J"`},
		`kill -TERM $$`:                                     {999, "signal: terminated"},
	} {
		_, err := run(t, time.Minute, body)
		var said *types.Error
		if !errors.As(err, &said) || said.Code != c.code || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: %v", body, err)
		}
	}
	e := &Exec{Daemon: "/d"}
	if _, err := e.ExecPlugin(t.Context(), "/nonexistent", nil, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a program that is not there: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.ExecPlugin(ctx, "/bin/true", nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that has left: %v", err)
	}
}

// TestEnds: whatever it started goes with it.
func TestEnds(t *testing.T) {
	for body, want := range map[string]error{
		`sleep 1000`:                         context.DeadlineExceeded,
		`sleep 1000 & sleep 1000 & wait`:     context.DeadlineExceeded,
		`trap '' TERM HUP; sleep 1000; true`: context.DeadlineExceeded,
		`setsid sh -c 'setsid sleep 1000 & sleep 1000' & sleep 1000`: context.DeadlineExceeded,
		`cat /dev/zero`:     errFlood,
		`cat /dev/zero >&2`: errFlood,
	} {
		limit := time.Minute
		if want == context.DeadlineExceeded {
			limit = time.Second
		}
		if _, err := run(t, limit, body); !errors.Is(err, want) {
			t.Errorf("%q: %v", body, err)
		}
	}
}

// TestChildThatStays: a plugin that has answered may leave a daemon behind, with or without its streams.
func TestChildThatStays(t *testing.T) {
	for _, body := range []string{`echo stays; setsid sleep 1000 &`, `echo stays; setsid sleep 1000 >/dev/null 2>&1 &`} {
		if out, err := run(t, time.Minute, body); err != nil || out != "stays\n" {
			t.Errorf("%q: %q, %v", body, out, err)
		}
	}
}

func TestAnswerOfTheLargestSize(t *testing.T) {
	out, err := run(t, time.Minute, fmt.Sprintf("head -c %d /dev/zero", MaxStdout))
	if err != nil || len(out) != MaxStdout {
		t.Errorf("%d bytes, %v", len(out), err)
	}
	if _, err := run(t, time.Minute, fmt.Sprintf("head -c %d /dev/zero", MaxStdout+1)); !errors.Is(err, errFlood) {
		t.Errorf("one more: %v", err)
	}
}

// TestProgramThatIsBeingInstalled is waited for.
func TestProgramThatIsBeingInstalled(t *testing.T) {
	path := program(t, "echo ready")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	go func() { time.Sleep(300 * time.Millisecond); f.Close() }()
	e := &Exec{Daemon: t.TempDir()}
	if out, err := e.ExecPlugin(t.Context(), path, nil, nil); err != nil || string(out) != "ready\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestFindInPath(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"good": 0o755, "open": 0o777, "data": 0o644} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"good": "", "open": "may be written by everybody", "data": "not executable", "dir": "is in none of", "none": "is in none of",
		"": "not the name", "..": "not the name", "a/b": "not the name",
	} {
		path, err := (*Exec)(nil).FindInPath(name, []string{"/nonexistent", dir})
		if want == "" && (err != nil || path != filepath.Join(dir, name)) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %q, %v", name, path, err)
		}
	}
}

// TestStraysAreThisDaemonsAlone.
func TestStraysAreThisDaemonsAlone(t *testing.T) {
	e, other := &Exec{Daemon: t.TempDir()}, &Exec{Daemon: t.TempDir()}
	for _, x := range []*Exec{e, other} {
		if _, err := x.ExecPlugin(t.Context(), program(t, "sleep 1000 >/dev/null 2>&1 & setsid sleep 1000 >/dev/null 2>&1 &"), nil, []string{"CNI_CONTAINERID=c", "CNI_COMMAND=ADD", "PATH=" + os.Getenv("PATH")}); err != nil {
			t.Fatal(err)
		}
	}
	for end := time.Now().Add(30 * time.Second); len(Strays(e.Daemon))+len(Strays(other.Daemon)) < 4 && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond) // they are in their execve
	}
	detached := 0
	for _, s := range Strays(e.Daemon) {
		if s.Sandbox != "c" || s.Command != "ADD" {
			t.Errorf("%+v", s)
		}
		if s.Detached {
			detached++
		}
	}
	if n := len(Strays(e.Daemon)); n != 2 {
		t.Errorf("%d strays, %d of them detached", n, detached)
	}
	if n := EndStrays(e.Daemon, func(Stray) bool { return true }); n != 2 {
		t.Errorf("%d were ended", n)
	}
	left := Strays(other.Daemon)
	if len(left) != 2 || detached != 1 {
		t.Errorf("the other's are %v", left)
	}
	for _, s := range left {
		unix.Kill(s.PID, unix.SIGKILL)
	}
}
