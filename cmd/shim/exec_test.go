package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

// runningContainer sleeps.
func runningContainer(t *testing.T, edit func(c *container)) *container {
	t.Helper()
	c := newHost(t).newPod(true).newContainer("sleep", "100000")
	if edit != nil {
		edit(c)
	}
	return c.run()
}

// wantNoSession: no process, no cgroup and no zombie of a session stays.
func wantNoSession(t *testing.T, c *container, processes int) {
	t.Helper()
	c.await("the end of the session's processes", func() bool { return len(groupPids(c.launch.CgroupPath)) == processes })
	c.await("the stage to be reaped", func() bool { return len(children(t)) == 1 })
	for _, d := range groupDirs(c.launch.CgroupPath) {
		c.await("the session's group to be removed", func() bool { left, _ := filepath.Glob(d + "/exec-*"); return len(left) == 0 })
	}
}

func TestExec(t *testing.T) {
	c := runningContainer(t, nil)
	for _, e := range []struct {
		args        []string
		out, errors string
		code        int32
	}{
		{[]string{"true"}, "", "", 0},
		{[]string{"sh", "-c", "echo out; echo err >&2; exit 3"}, "out\n", "err\n", 3},
		{[]string{"sh", "-c", "cat; echo $MARK; kill -9 $$"}, "from config\n", "", 137},
		{[]string{"nope"}, "", "exec: \"nope\": executable file not found in $PATH\n", 127},
		{[]string{"/nope"}, "", "exec: \"/nope\": stat /nope: no such file or directory\n", 127},
		{[]string{"/bin/busybox/x"}, "", "exec: \"/bin/busybox/x\": stat /bin/busybox/x: not a directory\n", 127},
		{[]string{"/etc"}, "", "exec: \"/etc\": is a directory\n", 126},
		{[]string{"/etc/plain"}, "", "exec: \"/etc/plain\": permission denied\n", 126},
		{[]string{"/" + strings.Repeat("x", 5000)}, "", "file name too long\n", 126},
		{[]string{"echo", "", "two  words", "$HOME\n"}, " two  words $HOME\n\n", "", 0},
	} {
		if e.args[0] == "/etc/plain" {
			must(t, os.WriteFile(filepath.Join(c.dir(), spec.UpperDir, "etc-plain"), nil, 0o644))
			if _, err := c.exec(0, "sh", "-c", "echo > /etc/plain"); err != nil {
				t.Fatal(err)
			}
		}
		r, err := c.exec(0, e.args...)
		if err != nil || string(r.Stdout) != e.out || !strings.HasSuffix(string(r.Stderr), e.errors) || (e.errors == "") != (len(r.Stderr) == 0) || r.ExitCode != e.code {
			t.Errorf("%.100q: got %q, %.200q, %d, %v", e.args, r.Stdout, r.Stderr, r.ExitCode, err)
		}
	}
	wantNoSession(t, c, 1)
}

// A session has exactly its container's identity and confinement.
func TestExecIsConfinedAsItsContainer(t *testing.T) {
	const show = "id -u; id -g; id -G; grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status; pwd; cat /proc/self/oom_score_adj; cat /proc/self/cgroup"
	c := runningContainer(t, func(k *container) {
		k.config.Process.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{1001, 5, 65535}}
		k.config.Process.NoNewPrivileges = true
		k.config.Process.Cwd = "/tmp"
		score := 500
		k.config.Process.OOMScoreAdj = &score
		k.config.Process.Args = []string{"sh", "-c", show + "; sleep 100000"}
		k.config.Linux.Seccomp = &specs.LinuxSeccomp{
			DefaultAction: specs.ActAllow, Architectures: []specs.Arch{specs.ArchX86_64},
			Syscalls: []specs.LinuxSyscall{{Names: []string{"add_key"}, Action: specs.ActErrno}},
		}
	})
	c.await("output", func() bool { return strings.Contains(c.log(), "0::") || strings.Count(c.log(), "\n") > 12 })
	r, err := c.exec(0, "sh", "-c", show)
	if err != nil || r.ExitCode != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	own, theirs := strings.Split(c.log(), "\n"), strings.Split(string(r.Stdout), "\n")
	for i, l := range own {
		if i >= len(theirs) {
			t.Errorf("exec shows %d lines, the container %d", len(theirs), len(own))
			break
		}
		if l != theirs[i] && !strings.Contains(l, "freezer") && !strings.HasPrefix(l, "0::") {
			t.Errorf("the container shows %q, exec %q", l, theirs[i])
		}
	}
	if theirs[0] != "1000" || !strings.Contains(string(r.Stdout), "Seccomp:\t2") {
		t.Errorf("got %s", r.Stdout)
	}
}

func TestExecInATerminalsContainer(t *testing.T) {
	c := runningContainer(t, func(k *container) { k.launch.TTY, k.config.Process.Terminal = true, true })
	r, err := c.exec(0, "sh", "-c", "test -t 1 || echo no terminal")
	if err != nil || string(r.Stdout) != "no terminal\n" {
		t.Errorf("%+v, %v", r, err)
	}
}

// A time limit kills the whole tree: children, grandchildren in sessions of their own, and those that ignore signals.
func TestExecTimeout(t *testing.T) {
	c := runningContainer(t, nil)
	before := time.Now()
	r, err := c.exec(300*time.Millisecond, "sh", "-c", "trap '' TERM; echo begun; setsid sh -c 'sleep 90001 & sleep 90002' & sleep 90003 & sleep 90004")
	if spec.KindOf(err) != context.DeadlineExceeded || !strings.Contains(err.Error(), "300ms") || string(r.Stdout) != "begun\n" {
		t.Errorf("%+v, %v", r, err)
	}
	if took := time.Since(before); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
	wantNoSession(t, c, 1)
}

// What forks all the time cannot run away from the kill.
func TestExecTimeoutKillsWhatForks(t *testing.T) {
	c := runningContainer(t, func(k *container) {
		most := int64(2000) // the machine is shared
		k.config.Linux.Resources.Pids = &specs.LinuxPids{Limit: &most}
	})
	_, err := c.exec(300*time.Millisecond, "sh", "-c", "while :; do setsid sleep 0.05 & done")
	if spec.KindOf(err) != context.DeadlineExceeded {
		t.Errorf("got %v", err)
	}
	wantNoSession(t, c, 1)
}

// What a command leaves in the background holds the pipes. It delays the answer by a second at most, and lives on.
func TestExecBackground(t *testing.T) {
	c := runningContainer(t, nil)
	before := time.Now()
	r, err := c.exec(20*time.Second, "sh", "-c", "echo begun; sleep 90001 & exit 4")
	if err != nil || string(r.Stdout) != "begun\n" || r.ExitCode != 4 {
		t.Errorf("%+v, %v", r, err)
	}
	if took := time.Since(before); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
	wantNoSession(t, c, 2)
}

func TestExecOutputIsCapped(t *testing.T) {
	c := runningContainer(t, nil)
	const most, more = 16 << 20, 20 << 20
	r, err := c.exec(0, "sh", "-c", fmt.Sprintf("yes | head -c %d; yes err | head -c %d >&2; exit 9", more, most))
	if err != nil || r.ExitCode != 9 || len(r.Stdout) != most || len(r.Stderr) != most {
		t.Fatalf("%d, %d bytes, code %d, %v", len(r.Stdout), len(r.Stderr), r.ExitCode, err)
	}
	if want := bytes.Repeat([]byte("y\n"), most/2); !bytes.Equal(r.Stdout, want) {
		t.Error("stdout is not what was written")
	}
}

// More large outputs at once than the daemon keeps: all come through.
func TestExecManyAtOnce(t *testing.T) {
	c := runningContainer(t, nil)
	var wg sync.WaitGroup
	for range 24 {
		wg.Go(func() {
			r, err := c.exec(0, "sh", "-c", "yes | head -c 500000; yes | head -c 500000 >&2")
			if err != nil || len(r.Stdout) != 500000 || len(r.Stderr) != 500000 {
				t.Errorf("%d, %d bytes, %v", len(r.Stdout), len(r.Stderr), err)
			}
		})
	}
	wg.Wait()
	wantNoSession(t, c, 1)
}

func TestExecCallerGivesUp(t *testing.T) {
	c := runningContainer(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		c.await("the command", func() bool { return len(groupPids(c.launch.CgroupPath)) > 2 })
		cancel()
	}()
	_, err := c.launcher.Exec(ctx, c.launch, spec.ExecProfile{}, spec.ExecRequest{Command: []string{"sh", "-c", "setsid sleep 90001 & sleep 90002"}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	wantNoSession(t, c, 1)
}

func TestExecWhereNothingRuns(t *testing.T) {
	h := newHost(t)
	c := h.newPod(true).newContainer("true")
	c.write()
	if _, err := c.exec(0, "true"); spec.KindOf(err) != errdefs.ErrFailedPrecondition {
		t.Errorf("before the start: %v", err)
	}
	must(t, c.start(t.Context()))
	c.exit()
	if _, err := c.exec(0, "true"); spec.KindOf(err) != errdefs.ErrFailedPrecondition || !strings.Contains(err.Error(), "stopped, not running") {
		t.Errorf("after the end: %v", err)
	}
	if _, err := c.exec(0); spec.KindOf(err) != errdefs.ErrFailedPrecondition || !strings.Contains(err.Error(), "without a command") {
		t.Errorf("without a command: %v", err)
	}
}

// The container ends under a session, and takes it along.
func TestExecContainerEnds(t *testing.T) {
	c := runningContainer(t, nil)
	go func() {
		c.await("the command", func() bool { return len(groupPids(c.launch.CgroupPath)) > 1 })
		unix.Kill(c.started().Init.PID, unix.SIGKILL)
	}()
	r, err := c.exec(0, "sleep", "90001")
	if err == nil && r.ExitCode != 137 { // it may end before the command has begun
		t.Errorf("%+v, %v", r, err)
	}
	c.exit()
}

// A stage that fails or is killed at any of its steps: the caller gets an error, and no tree stays.
func TestExecEveryStep(t *testing.T) {
	p := newHost(t).newPod(true)
	for _, s := range []string{"group", "run", "wait"} {
		for _, f := range []fault{
			{"exec", s, step.Doing, "fail"}, {"exec", s, step.Doing, "kill"}, {"exec", s, step.Done, "kill"},
			{"exec", "group", step.Undoing, "kill"}, {"exec", "group", step.Undone, "kill"},
		} {
			c := p.newContainer("sleep", "100000")
			c.run()
			c.write(f)
			r, err := c.exec(0, "sh", "-c", "setsid sleep 90001 & sleep 0.1; exit 5")
			want := errdefs.ErrUnavailable
			if f.Do == "fail" && (spec.KindOf(err) != errdefs.ErrFailedPrecondition || !strings.Contains(err.Error(), "injected")) ||
				f.Do == "kill" && spec.KindOf(err) != error(want) {
				t.Errorf("%s at %s %s: %+v, %v", f.Do, f.Step, f.Phase, r, err)
			}
			c.await("the end of the session", func() bool { return len(groupPids(c.launch.CgroupPath)) <= 2 })
			must(t, unix.Kill(c.started().Init.PID, unix.SIGKILL))
			c.exit()
		}
	}
}
