package stage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/opencontainers/cgroups"
	_ "github.com/opencontainers/cgroups/devices" // as in the creator: the same configuration is read here
	"github.com/opencontainers/runc/libcontainer"
	_ "github.com/opencontainers/runc/libcontainer/nsenter" // C, before main: the process's way into the container
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/cmd/shim/bundle"
	"github.com/runtimed/runtimed/pkg/sandbox/launch/wire"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

// Options are for the one who builds a program around Main.
type Options struct {
	// Observe sees the steps of the flow "exec"; nil sees nothing.
	Observe step.Observer
}

// killPatience is how long a killed tree may take to end.
const killPatience = 10 * time.Second

var (
	errTimeout = errors.New("time limit")
	errGone    = errors.New("the launcher has gone")
)

// Main is the exec stage for the container with the given record directory. It returns the exit code of the stage
// itself: 0 when an outcome was written.
func Main(dir string, o Options) int {
	for fd := wire.Request; fd <= wire.Stdin; fd++ {
		unix.CloseOnExec(fd)
	}
	answer := os.NewFile(wire.Outcome, "outcome")
	outcome, err := run(dir, o)
	if err != nil {
		outcome = wire.ExecOutcome{Failure: err.Error()}
	}
	if err := wire.Write(answer, outcome); err != nil {
		fmt.Fprintln(os.Stderr, "outcome:", err)
		return 1
	}
	return 0
}

func run(dir string, o Options) (wire.ExecOutcome, error) {
	request, err := wire.ReadRequest(os.NewFile(wire.Request, "request"))
	if err != nil {
		return wire.ExecOutcome{}, err
	}
	s := &session{
		request: request,
		stdout:  os.NewFile(wire.Stdout, "stdout"),
		stderr:  os.NewFile(wire.Stderr, "stderr"),
	}
	switch {
	case request.Stdin:
		s.stdin = os.NewFile(wire.Stdin, "stdin")
	case request.TTY:
		s.console = os.NewFile(wire.Console, "console")
	}
	ctx, stop := context.WithCancelCause(context.Background())
	defer stop(nil)
	if request.Timeout > 0 {
		timer := time.AfterFunc(request.Timeout, func() { stop(errTimeout) })
		defer timer.Stop()
	}
	go func() {
		os.NewFile(wire.Lifeline, "lifeline").Read(make([]byte, 1)) // nothing is ever written
		stop(errGone)
	}()
	if s.bundle, err = bundle.Read(dir); err != nil {
		return wire.ExecOutcome{}, err
	}
	if err := s.load(); err != nil {
		return wire.ExecOutcome{}, err
	}
	f := step.Flow{Name: "exec", ID: filepath.Base(dir), Steps: s.steps(), Observe: o.Observe}
	err = f.Run(ctx)
	cause := context.Cause(ctx)
	s.finished = err == nil
	// Detached: the session's end must not be cut short by what caused it.
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), killPatience)
	defer cancel()
	left := f.Teardown(end)
	switch {
	case left == nil:
	case s.finished: // a group without processes of the session: the end of the container takes it down
		fmt.Fprintln(os.Stderr, left)
	default:
		return wire.ExecOutcome{}, fmt.Errorf("the command could not be killed: %w", left)
	}
	return s.outcome(err, cause)
}

// session is one command in a container.
type session struct {
	request        wire.ExecRequest
	stdout, stderr *os.File
	stdin, console *os.File // nil, or the one that the request asks for
	bundle         *bundle.Bundle
	state          *os.File // libcontainer's root
	container      *libcontainer.Container
	group          group
	process        *libcontainer.Process
	ended          chan struct{} // closed when the command, once started, was reaped
	code           int32         // its exit code, then
	finished       bool          // the command ended by itself
}

func (s *session) load() error {
	path, state, err := s.bundle.OpenState()
	if errors.Is(err, os.ErrNotExist) {
		return errors.New("the container was not started")
	}
	if err != nil {
		return err
	}
	s.state = state // open for as long as the container is used here
	s.container, err = libcontainer.Load(path, s.bundle.Launch.ContainerID)
	if err != nil {
		return fmt.Errorf("state of the container: %w", err)
	}
	status, err := s.container.Status()
	if err != nil {
		return fmt.Errorf("state of the container: %w", err)
	}
	if status != libcontainer.Running {
		return fmt.Errorf("the container is %s, not running", status)
	}
	known, err := s.container.State()
	if err != nil {
		return err
	}
	s.group, err = sessionGroup(known.CgroupPaths, cgroups.IsCgroup2UnifiedMode(), s.request.Group)
	return err
}

func (s *session) steps() []step.Step {
	return []step.Step{
		{Name: "group", Do: func(context.Context) error { return s.group.make() }, Undo: s.end},
		{Name: "run", Do: s.start},
		{Name: "wait", Do: s.wait},
	}
}

// end kills the session, unless its command ended by itself, and removes its group.
func (s *session) end(ctx context.Context) error {
	if !s.finished {
		if err := s.group.kill(ctx); err != nil {
			return err
		}
	}
	if s.ended != nil {
		select {
		case <-s.ended:
		case <-ctx.Done():
			return errors.New("the killed command was not reaped")
		}
	}
	return s.group.remove()
}

// start joins the command to the container. It ends early with ctx: the group is killed under it.
func (s *session) start(ctx context.Context) error {
	p, err := bundle.Process(s.bundle.Config.Process)
	if err != nil {
		return err
	}
	p.Args = s.request.Args
	if s.request.Copy {
		own, err := asCopier(p)
		if err != nil {
			return err
		}
		defer own.Close()
	}
	p.ConsoleWidth, p.ConsoleHeight = s.request.Width, s.request.Height
	if s.console != nil {
		p.ConsoleSocket = s.console
	} else {
		p.Stdout, p.Stderr = s.stdout, s.stderr
		if s.stdin != nil {
			p.Stdin = s.stdin // else libcontainer opens /dev/null
		}
	}
	p.SubCgroupPaths = map[string]string{s.group.controller: s.request.Group}
	if err := s.ownStreams(); err != nil {
		return err
	}
	s.process = p
	started := make(chan error, 1)
	go func() { started <- s.container.Start(p) }()
	select {
	case err = <-started:
	case <-ctx.Done():
		err = s.killUntil(started)
	}
	if err == nil {
		s.reap()
	} else if context.Cause(ctx) == nil {
		err = s.refused(err)
	}
	for _, f := range []*os.File{s.stdout, s.stderr, s.stdin, s.console} {
		f.Close() // of a nil file: an error, and no harm
	}
	return err
}

// killUntil kills the group whenever something is there: it is empty for as long as the process has not entered it.
func (s *session) killUntil(started <-chan error) error {
	ctx, cancel := context.WithTimeout(context.Background(), killPatience)
	defer cancel()
	for {
		if err := s.group.kill(ctx); err != nil {
			return err
		}
		select {
		case err := <-started:
			return err
		case <-time.After(5 * time.Millisecond):
		}
		if ctx.Err() != nil {
			return errors.New("the command neither started nor ended")
		}
	}
}

// reap waits for the command, once, for all who want to know.
func (s *session) reap() {
	s.ended = make(chan struct{})
	go func() {
		defer close(s.ended)
		state, err := s.process.Wait()
		if state == nil {
			fmt.Fprintln(os.Stderr, "wait:", err)
			s.code = 255
			return
		}
		s.code = exitCode(state.Sys().(syscall.WaitStatus))
	}()
}

// ownStreams gives the pipes to the container's root; its process hands them on to its user.
func (s *session) ownStreams() error {
	config := s.container.Config()
	uid, err := config.HostRootUID()
	if err != nil {
		return err
	}
	gid, err := config.HostRootGID()
	if err != nil {
		return err
	}
	for _, f := range []*os.File{s.stdout, s.stderr, s.stdin} {
		if f == nil {
			continue
		}
		if err := f.Chown(uid, gid); err != nil {
			return err
		}
	}
	return nil
}

// wait returns when the command was reaped, or with what ended ctx.
func (s *session) wait(ctx context.Context) error {
	select {
	case <-s.ended:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func exitCode(s syscall.WaitStatus) int32 {
	if s.Signaled() {
		return 128 + int32(s.Signal())
	}
	return int32(s.ExitStatus())
}

// outcome puts the flow's error and what ended it into one answer.
func (s *session) outcome(err, cause error) (wire.ExecOutcome, error) {
	var refused *refusedError
	switch {
	case err == nil:
		return wire.ExecOutcome{ExitCode: s.code}, nil
	case errors.Is(cause, errTimeout):
		return wire.ExecOutcome{ExitCode: 128 + int32(unix.SIGKILL), TimedOut: true}, nil
	case cause != nil:
		return wire.ExecOutcome{}, cause
	case errors.As(err, &refused):
		return wire.ExecOutcome{ExitCode: refused.code}, nil
	default:
		return wire.ExecOutcome{}, fmt.Errorf("%s: %w", strconv.Quote(s.request.Args[0]), err)
	}
}
