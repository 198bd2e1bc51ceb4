package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/launch"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

// daemonVerb makes this binary a daemon that does one thing, and can be killed at it.
const daemonVerb = "test-daemon"

// order is what it is told.
type order struct {
	Program string
	Launch  spec.Launch
	Command []string // Exec where there is one, else Start
	Hang    bool     // in onCreated
}

func daemon(text string) int {
	var o order
	err := json.Unmarshal([]byte(text), &o)
	if err == nil {
		err = o.obey()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func (o order) obey() error {
	l, err := launch.New(launch.Options{Program: o.Program})
	if err != nil {
		return err
	}
	if len(o.Command) > 0 {
		_, err = l.Exec(context.Background(), o.Launch, spec.ExecProfile{}, spec.ExecRequest{Command: o.Command})
		return err
	}
	return l.Start(context.Background(), o.Launch, func(p spec.Process) error {
		fmt.Println(p.PID)
		if o.Hang {
			unix.Pause()
		}
		return nil
	})
}

// daemonFor starts a daemon; it is dead at the end of the test.
func (c *container) daemonFor(o order) *exec.Cmd {
	c.t.Helper()
	o.Program, o.Launch = filepath.Join(built, "runtimed-shim"), c.launch
	text, err := json.Marshal(o)
	must(c.t, err)
	cmd := exec.Command("/proc/self/exe", daemonVerb, string(text))
	cmd.Stderr = os.Stderr
	must(c.t, cmd.Start())
	c.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd
}

func kill(cmd *exec.Cmd) {
	cmd.Process.Kill()
	cmd.Wait()
}

// A daemon that dies before it has recorded the shim leaves nothing.
func TestDaemonDiesBeforeItsGo(t *testing.T) {
	c := newHost(t).newPod(true).newContainer("sleep", "1000")
	c.write()
	d := c.daemonFor(order{Hang: true})
	var shim string
	c.await("the shim", func() bool {
		for _, f := range childrenOf(d.Process.Pid) {
			shim = f
		}
		return shim != ""
	})
	kill(d)
	c.await("the shim's end", func() bool { _, err := os.Stat("/proc/" + shim); return os.IsNotExist(err) || !alive(atoi(shim)) })
	wantNothingLeft(t, c)
}

// A daemon that dies after its go leaves a container that runs as if it lived.
func TestDaemonDiesAfterItsGo(t *testing.T) {
	h := newHost(t)
	p := h.newPod(true)
	for _, at := range []string{"cover", "start", "become"} {
		c := p.newContainer("sh", "-c", "echo begun; exit 6")
		c.write(fault{Flow: "creator", Step: at, Phase: step.Doing, Do: "stop"})
		d := c.daemonFor(order{})
		shim := 0
		c.await("the shim to stop", func() bool {
			for _, f := range childrenOf(d.Process.Pid) {
				if stopped(atoi(f)) {
					shim = atoi(f)
				}
			}
			return shim != 0
		})
		kill(d)
		must(t, unix.Kill(shim, unix.SIGCONT))
		if out := c.output(6); out != "begun\n" {
			t.Errorf("%s: got %q", at, out)
		}
		c.await("the shim's end", func() bool { _, ok := h.launcher.Alive(h.layout, c.pod.id, c.id); return !ok })
	}
}

// A daemon that dies takes its exec sessions along.
func TestDaemonDiesDuringExec(t *testing.T) {
	c := runningContainer(t, nil)
	d := c.daemonFor(order{Command: []string{"sh", "-c", "setsid sleep 90001 & sleep 90002"}})
	c.await("the command", func() bool { return len(groupPids(c.launch.CgroupPath)) >= 3 })
	kill(d)
	wantNoSession(t, c, 1)
}

// A daemon that dies with its stages leaves a tree that nobody waits for: the next daemon ends it.
func TestDaemonAndStageDieDuringExec(t *testing.T) {
	c := runningContainer(t, nil)
	for _, faults := range [][]fault{nil, {{"exec", "group", step.Done, "stop"}}} {
		c.write(faults...)
		d := c.daemonFor(order{Command: []string{"sh", "-c", "setsid sleep 90001 & sleep 90002"}})
		var stage string
		c.await("the session", func() bool {
			for _, f := range childrenOf(d.Process.Pid) {
				stage = f
			}
			return len(groupPids(c.launch.CgroupPath)) >= 3 || faults != nil && stage != "" && stopped(atoi(stage))
		})
		must(t, d.Process.Signal(unix.SIGSTOP)) // it shall not see its stage die
		must(t, unix.Kill(atoi(stage), unix.SIGKILL))
		kill(d)
		names, err := c.Below(c.launch.CgroupPath)
		if err != nil || len(names) != 1 {
			t.Fatalf("left: %q, %v", names, err)
		}
		must(t, c.launcher.EndSessions(t.Context(), c.launch))
		wantNoSession(t, c, 1)
		must(t, c.launcher.EndSessions(t.Context(), c.launch))
	}
	must(t, os.Remove(filepath.Join(c.dir(), faultFile)))
	if r, err := c.exec(20*time.Second, "true"); err != nil || r.ExitCode != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

func childrenOf(pid int) []string {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	return fieldsOf(tasks)
}
