package launch

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"time"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/launch/wire"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

const (
	// drainTime is how long output is read after the command's end, while a process that it left behind holds the
	// pipes (kubelet issue: an exec probe that never returns).
	drainTime = time.Second
	// stagePatience is how long a stage may take to kill its tree (its own limit is 10 s) and to answer.
	stagePatience = 12 * time.Second
)

// Exec runs a command in the container, in a stage of its own, with the container's user, environment and confinement.
// A missing command ends with exit code 127, one that is not executable with 126, both with the reason on stderr. When
// r.Timeout or ctx ends, the whole tree is killed. A timeout's error has the kind context.DeadlineExceeded, and the
// result holds what was written until then; a container that is not running is FailedPrecondition.
func (s *Launcher) Exec(ctx context.Context, l spec.Launch, _ spec.ExecProfile, r spec.ExecRequest) (spec.ExecResult, error) {
	name := make([]byte, 8)
	if _, err := rand.Read(name); err != nil {
		return spec.ExecResult{}, err
	}
	e := &session{
		launcher: s, launch: l,
		request: wire.ExecRequest{
			Version: wire.ExecVersion, Args: r.Command, Timeout: r.Timeout, Group: "exec-" + hex.EncodeToString(name),
		},
	}
	defer e.close()
	if err := e.start(); err != nil {
		return spec.ExecResult{}, fmt.Errorf("start of the exec stage: %w", err)
	}
	out, err := e.wait(ctx)
	result := spec.ExecResult{Stdout: e.stdout.bytes(), Stderr: e.stderr.bytes(), ExitCode: out.ExitCode}
	switch {
	case context.Cause(ctx) != nil && (err != nil || out.Failure != ""):
		return result, context.Cause(ctx)
	case err != nil:
		return result, err
	case out.Failure != "":
		return result, spec.Errorf(errdefs.ErrFailedPrecondition, "exec in container %s: %s", l.ContainerID, out.Failure)
	case out.TimedOut:
		return result, spec.Errorf(context.DeadlineExceeded, "command %q did not end within %v and was killed", r.Command[0], r.Timeout)
	}
	return result, nil
}

// session is one exec stage, seen from the daemon.
type session struct {
	launcher *Launcher
	launch   spec.Launch
	request  wire.ExecRequest
	stage    *child
	// Ours: outcome is read; lifeline is held.
	outcome, lifeline *os.File
	stdout, stderr    *collector
}

func (e *session) start() error {
	var theirs, ours []*os.File
	defer func() { closeAll(theirs...) }()
	for _, make := range []func() (r, w *os.File, err error){pipeTo, pipe, pipeTo, pipe, pipe} {
		r, w, err := make()
		if err != nil {
			closeAll(ours...)
			return err
		}
		// Of a pipe to the stage the read end is the stage's: request, lifeline.
		if n := len(theirs); n == wire.Request-3 || n == wire.Lifeline-3 {
			r, w = w, r
		}
		ours, theirs = append(ours, r), append(theirs, w)
	}
	dir := e.launch.Layout.Container(e.launch.SandboxID, e.launch.ContainerID)
	stage, err := startChild(e.launcher.program, []string{wire.VerbExec, dir}, 0, theirs...)
	if err != nil {
		closeAll(ours...)
		return err
	}
	e.stage, e.outcome, e.lifeline = stage, ours[wire.Outcome-3], ours[wire.Lifeline-3]
	room := &room{slots: e.launcher.large}
	e.stdout, e.stderr = collect(ours[wire.Stdout-3], room), collect(ours[wire.Stderr-3], room)
	go func(to *os.File) { // longer than a pipe holds, perhaps; a stage that died ends it
		wire.Write(to, e.request)
		to.Close()
	}(ours[wire.Request-3])
	return nil
}

// wait returns when the command has ended, or its tree was killed, and all output that is to be had is there.
func (e *session) wait(ctx context.Context) (wire.ExecOutcome, error) {
	give := func() { // up: the stage kills the tree, and answers
		e.lifeline.Close()
		e.outcome.SetReadDeadline(time.Now().Add(stagePatience))
	}
	stop := context.AfterFunc(ctx, give)
	defer stop()
	if e.request.Timeout > 0 {
		timer := time.AfterFunc(e.request.Timeout+stagePatience, give) // the stage itself hangs
		defer timer.Stop()
	}
	out, err := wire.ReadOutcome(e.outcome)
	if err != nil {
		e.stage.killWithin(0)
		err = spec.Errorf(errdefs.ErrUnavailable, "exec stage in container %s: no outcome (%s): %w", e.launch.ContainerID, e.stage.ended(), err)
		e.sweep()
	}
	e.drain()
	e.stage.killWithin(2 * time.Second)
	if said := e.stage.complaints.text(); said != "" && err == nil {
		e.launcher.log.Warn("an exec stage complained", "container", e.launch.ContainerID, "text", said)
	}
	return out, err
}

// sweep ends a tree whose stage was killed.
func (e *session) sweep() {
	if e.launcher.groups == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), stagePatience)
	defer cancel()
	group := e.launch.CgroupPath + "/" + e.request.Group
	if err := e.launcher.groups.Remove(ctx, group); err != nil {
		e.launcher.log.Warn("the cgroup of an exec session stays until its container ends", "path", group, "error", err)
	}
}

// drain reads on for a little while, then gives the pipes up.
func (e *session) drain() {
	limit := time.After(drainTime)
	for _, c := range []*collector{e.stdout, e.stderr} {
		select {
		case <-c.done:
		case <-limit:
			e.stdout.stop()
			e.stderr.stop()
		}
	}
	<-e.stdout.done
	<-e.stderr.done
}

func (e *session) close() {
	closeAll(e.outcome, e.lifeline)
}
