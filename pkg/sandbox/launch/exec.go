package launch

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
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
	// sessionPrefix begins the name of each session's cgroup, below the container's.
	sessionPrefix = "exec-"
)

// Exec runs a command in the container, in a stage of its own, with the container's user, environment and confinement.
// A missing command ends with exit code 127, one that is not executable with 126, both with the reason on stderr. When
// r.Timeout or ctx ends, the whole tree is killed. A timeout's error has the kind context.DeadlineExceeded, and the
// result holds what was written until then; a container that is not running is FailedPrecondition.
func (s *Launcher) Exec(ctx context.Context, l spec.Launch, _ spec.ExecProfile, r spec.ExecRequest) (spec.ExecResult, error) {
	e, err := s.newSession(l, wire.ExecRequest{Args: r.Command, Timeout: r.Timeout})
	if err != nil {
		return spec.ExecResult{}, err
	}
	defer e.close()
	fromStdout, fromStderr, err := e.start(nil)
	if err != nil {
		return spec.ExecResult{}, fmt.Errorf("start of the exec stage: %w", err)
	}
	room := &room{slots: s.large}
	stdout, stderr := collect(fromStdout, room), collect(fromStderr, room)
	e.ask()
	out, err := e.wait(ctx)
	drain(stdout, stderr)
	e.reap(err)
	result := spec.ExecResult{Stdout: stdout.bytes(), Stderr: stderr.bytes(), ExitCode: out.ExitCode}
	if err := e.explain(ctx, out, err); err != nil {
		return result, err
	}
	if out.TimedOut {
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
	// Ours: the request is written, the outcome read; lifeline is held.
	asked, outcome, lifeline *os.File
}

// newSession completes the request.
func (s *Launcher) newSession(l spec.Launch, r wire.ExecRequest) (*session, error) {
	name := make([]byte, 8)
	if _, err := rand.Read(name); err != nil {
		return nil, err
	}
	r.Version, r.Group = wire.ExecVersion, sessionPrefix+hex.EncodeToString(name)
	return &session{launcher: s, launch: l, request: r}, nil
}

// start starts the stage; extra, which may be nil, is its descriptor for input, and stays the caller's to close.
func (e *session) start(extra *os.File) (stdout, stderr *os.File, err error) {
	var theirs, ours []*os.File
	defer func() { closeAll(theirs...) }()
	for _, make := range []func() (r, w *os.File, err error){pipeTo, pipe, pipeTo, pipe, pipe} {
		r, w, err := make()
		if err != nil {
			closeAll(ours...)
			return nil, nil, err
		}
		// Of a pipe to the stage the read end is the stage's: request, lifeline.
		if n := len(theirs); n == wire.Request-3 || n == wire.Lifeline-3 {
			r, w = w, r
		}
		ours, theirs = append(ours, r), append(theirs, w)
	}
	files := theirs
	if extra != nil {
		files = append(slices.Clip(files), extra)
	}
	dir := e.launch.Layout.Container(e.launch.SandboxID, e.launch.ContainerID)
	stage, err := startChild(e.launcher.program, []string{wire.VerbExec, dir}, 0, files...)
	if err != nil {
		closeAll(ours...)
		return nil, nil, err
	}
	e.stage, e.asked, e.outcome, e.lifeline = stage, ours[wire.Request-3], ours[wire.Outcome-3], ours[wire.Lifeline-3]
	return ours[wire.Stdout-3], ours[wire.Stderr-3], nil
}

// ask sends the request, which may be longer than a pipe holds; a stage that died ends it.
func (e *session) ask() {
	go func(to *os.File, r wire.ExecRequest) {
		wire.Write(to, r)
		to.Close()
	}(e.asked, e.request)
}

// wait returns when the command has ended, or its tree was killed.
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
	return out, err
}

// reap waits for the stage, which has nothing more to do.
func (e *session) reap(err error) {
	e.stage.killWithin(2 * time.Second)
	if said := e.stage.complaints.text(); said != "" && err == nil {
		e.launcher.log.Warn("an exec stage complained", "container", e.launch.ContainerID, "text", said)
	}
}

// explain is the error of a session that gave no exit code.
func (e *session) explain(ctx context.Context, out wire.ExecOutcome, err error) error {
	switch {
	case context.Cause(ctx) != nil && (err != nil || out.Failure != ""):
		return context.Cause(ctx)
	case err != nil:
		return err
	case out.Failure != "":
		return spec.Errorf(errdefs.ErrFailedPrecondition, "exec in container %s: %s", e.launch.ContainerID, out.Failure)
	}
	return nil
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

// EndSessions ends what a former daemon's exec sessions left in a container: of a session whose stage was killed with the
// daemon, nobody else knows. It must be over before the container's first session of this daemon.
func (s *Launcher) EndSessions(ctx context.Context, l spec.Launch) error {
	if s.groups == nil {
		return nil
	}
	names, err := s.groups.Below(l.CgroupPath)
	if err != nil {
		return err
	}
	var left []error
	for _, name := range names {
		if strings.HasPrefix(name, sessionPrefix) {
			s.log.Info("an exec session that a former daemon left is ended", "container", l.ContainerID, "session", name)
			left = append(left, s.groups.Remove(ctx, l.CgroupPath+"/"+name))
		}
	}
	return errors.Join(left...)
}

// drain reads on for a little while, then gives the pipes up.
func drain(all ...*collector) {
	limit := time.After(drainTime)
	for _, c := range all {
		select {
		case <-c.done:
		case <-limit:
			for _, c := range all {
				c.stop()
			}
		}
	}
	for _, c := range all {
		<-c.done
	}
}

func (e *session) close() {
	closeAll(e.outcome, e.lifeline)
}
