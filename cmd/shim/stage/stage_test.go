package stage

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/launch/wire"
)

func TestClassify(t *testing.T) {
	const wrap = "unable to start container process: "
	for in, want := range map[string]int32{
		wrap + `exec: "nope": executable file not found in $PATH`:                            127,
		wrap + `exec: "/nope": stat /nope: no such file or directory`:                        127,
		wrap + `exec: "/file/x": stat /file/x: not a directory`:                              127,
		wrap + `exec: "/file": permission denied`:                                            126,
		wrap + `exec: "/etc": is a directory`:                                                126,
		wrap + `exec: "/loop": stat /loop: too many levels of symbolic links`:                126,
		wrap + `exec: "/x": stat /x: file name too long`:                                     126,
		wrap + `chdir to cwd ("/gone") set in config.json failed: no such file or directory`: 0,
		wrap + `unable to init seccomp: permission denied`:                                   0,
		wrap + `exec: "/x": something new`:                                                   0,
		"":                                                                                   0,
	} {
		code, text := classify(in)
		if code != want || code != 0 && !strings.HasPrefix(text, `exec: "`) {
			t.Errorf("%q: got %d, %q", in, code, text)
		}
	}
}

func FuzzClassify(f *testing.F) {
	f.Add(`x: exec: "a": permission denied`)
	f.Fuzz(func(t *testing.T, s string) {
		if code, _ := classify(s); code != 0 && code != 126 && code != 127 {
			t.Fatalf("%q: %d", s, code)
		}
	})
}

func TestOutcome(t *testing.T) {
	s := &session{code: 7, request: wire.ExecRequest{Args: []string{"a"}}}
	refused := &refusedError{code: 127, text: "x"}
	for name, c := range map[string]struct {
		err, cause error
		want       wire.ExecOutcome
		fails      string
	}{
		"ended":             {nil, nil, wire.ExecOutcome{ExitCode: 7}, ""},
		"ended in time":     {nil, errTimeout, wire.ExecOutcome{ExitCode: 7}, ""},
		"time limit":        {errTimeout, errTimeout, wire.ExecOutcome{ExitCode: 137, TimedOut: true}, ""},
		"killed at start":   {errors.New("x"), errTimeout, wire.ExecOutcome{ExitCode: 137, TimedOut: true}, ""},
		"launcher gone":     {errGone, errGone, wire.ExecOutcome{}, "the launcher has gone"},
		"cannot be run":     {refused, nil, wire.ExecOutcome{ExitCode: 127}, ""},
		"something else":    {errors.New("no memory"), nil, wire.ExecOutcome{}, `"a": no memory`},
		"refused, and gone": {refused, errGone, wire.ExecOutcome{}, "the launcher has gone"},
	} {
		got, err := s.outcome(c.err, c.cause)
		if got != c.want || (err == nil) != (c.fails == "") || err != nil && err.Error() != c.fails {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
}

func TestExitCode(t *testing.T) {
	for script, want := range map[string]int32{"exit 0": 0, "exit 255": 255, "kill -9 $$": 137, "kill -15 $$": 143} {
		cmd := exec.Command("/bin/sh", "-c", script)
		cmd.Run()
		if got := exitCode(cmd.ProcessState.Sys().(syscall.WaitStatus)); got != want {
			t.Errorf("%s: got %d, want %d", script, got, want)
		}
	}
}

func TestSessionGroup(t *testing.T) {
	if g, err := sessionGroup(map[string]string{"": "/u/c"}, true, "exec-1"); err != nil || g != (group{dir: "/u/c/exec-1", parent: "/u/c"}) {
		t.Errorf("v2: %+v, %v", g, err)
	}
	hybrid := map[string]string{"": "/u/c", "freezer": "/f/c"}
	if g, err := sessionGroup(hybrid, false, "exec-1"); err != nil || g != (group{dir: "/f/c/exec-1", parent: "/f/c", controller: "freezer"}) {
		t.Errorf("hybrid: %+v, %v", g, err)
	}
	if _, err := sessionGroup(map[string]string{"memory": "/m/c"}, false, "exec-1"); err == nil {
		t.Error("without a freezer: accepted")
	}
}

// hierarchies are this machine's v2 hierarchy and its v1 freezer, where it has them.
func hierarchies(t *testing.T) []group {
	t.Helper()
	v2 := "/sys/fs/cgroup"
	if !cgroups.IsCgroup2UnifiedMode() {
		v2 += "/unified"
	}
	var out []group
	for controller, mount := range map[string]string{"": v2, "freezer": "/sys/fs/cgroup/freezer"} {
		if _, err := os.Stat(filepath.Join(mount, "cgroup.procs")); err != nil {
			continue
		}
		parent, err := os.MkdirTemp(mount, "runtimed-test-stage-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := cgroups.RemovePath(parent); err != nil {
				t.Error(err)
			}
		})
		out = append(out, group{dir: filepath.Join(parent, "exec-1"), parent: parent, controller: controller})
	}
	if len(out) == 0 {
		t.Fatal("no hierarchy to test in")
	}
	return out
}

// in runs a shell script in a group, and returns once it has said something.
func in(t *testing.T, g group, script string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", "read x; echo in; "+script)
	to, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	from, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := cgroups.WriteCgroupProc(g.dir, cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	to.Write([]byte("\n"))
	from.Read(make([]byte, 2))
	return cmd
}

func TestGroupKill(t *testing.T) {
	for _, g := range hierarchies(t) {
		if err := g.kill(t.Context()); err != nil {
			t.Errorf("%s, not there: %v", g.dir, err)
		}
		if err := g.make(); err != nil {
			t.Fatal(err)
		}
		cmd := in(t, g, "trap '' TERM INT HUP; sleep 1000 & setsid sleep 1000 & while :; do sleep 0.001 & done")
		if err := g.kill(t.Context()); err != nil {
			t.Errorf("%s: %v", g.dir, err)
		}
		cmd.Wait()
		if pids, err := cgroups.GetAllPids(g.dir); err != nil || len(pids) > 0 {
			t.Errorf("%s: %v, %v", g.dir, pids, err)
		}
		if err := errors.Join(g.remove(), g.remove()); err != nil {
			t.Errorf("%s: %v", g.dir, err)
		}
	}
}

// One process that was stopped, or frozen by somebody else, is killed all the same.
func TestGroupKillStopped(t *testing.T) {
	for _, g := range hierarchies(t) {
		if err := g.make(); err != nil {
			t.Fatal(err)
		}
		cmd := in(t, g, "kill -STOP $$")
		if g.controller == "freezer" {
			if err := g.freeze(); err != nil {
				t.Fatal(err)
			}
		}
		if err := g.kill(t.Context()); err != nil {
			t.Errorf("%s: %v", g.dir, err)
		}
		cmd.Wait()
		if err := g.remove(); err != nil {
			t.Error(err)
		}
	}
}

func TestGroupKillGivesUp(t *testing.T) {
	for _, g := range hierarchies(t) {
		if err := g.make(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		cmd := in(t, g, "while :; do sleep 1; done")
		if err := g.kill(ctx); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if err := g.kill(t.Context()); err != nil {
			t.Error(err)
		}
		cmd.Wait()
		if err := g.remove(); err != nil {
			t.Error(err)
		}
	}
}

func TestGroupRemoveHandsOver(t *testing.T) {
	for _, g := range hierarchies(t) {
		if err := g.make(); err != nil {
			t.Fatal(err)
		}
		cmd := in(t, g, "sleep 1000")
		if err := g.remove(); err != nil {
			t.Errorf("%s: %v", g.dir, err)
		}
		if _, err := os.Stat(g.dir); !os.IsNotExist(err) {
			t.Errorf("%s stays: %v", g.dir, err)
		}
		pids, err := cgroups.GetPids(g.parent)
		if err != nil || len(pids) == 0 {
			t.Errorf("the background process is not in %s: %v, %v", g.parent, pids, err)
		}
		for _, pid := range pids {
			unix.Kill(pid, unix.SIGKILL)
		}
		cmd.Wait()
		for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			if pids, _ := cgroups.GetPids(g.parent); len(pids) == 0 {
				break
			}
		}
	}
}
