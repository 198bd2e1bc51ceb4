package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/cmd/runtimed/client"
	"github.com/runtimed/runtimed/cmd/runtimed/session"
	"github.com/runtimed/runtimed/pkg/cri/control/controlpb"
	"github.com/runtimed/runtimed/pkg/logs"
)

// passed are the signals that a container gets in the place of this program.
var passed = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2}

// signals takes this program's signals from catch to end. While the container is being made they break that off; from
// running on they are the container's.
type signals struct {
	runner *runner
	making context.Context // ends with the signal as its cause
	watch  context.Context // ends when the user leaves the container alone
	leave  context.CancelCauseFunc
	giveUp context.CancelCauseFunc
	in     chan os.Signal

	mu      sync.Mutex
	running bool
	ctrlC   int
}

func catch(ctx context.Context, r *runner) *signals {
	s := &signals{runner: r, in: make(chan os.Signal, 16)}
	s.making, s.giveUp = context.WithCancelCause(ctx)
	s.watch, s.leave = context.WithCancelCause(ctx)
	signal.Notify(s.in, passed...)
	signal.Ignore(syscall.SIGPIPE) // a write to a pipe that nobody reads fails instead: attach ends the container then
	go func() {
		for sig := range s.in {
			s.take(sig.(syscall.Signal))
		}
	}()
	return s
}

func (s *signals) end() {
	signal.Stop(s.in)
	signal.Reset(syscall.SIGPIPE)
	close(s.in)
	s.giveUp(nil)
	s.leave(nil)
}

func (s *signals) take(sig syscall.Signal) {
	nth, running := s.count(sig)
	switch {
	case !running:
	case sig != syscall.SIGINT || nth <= 1:
		s.runner.send(s.watch, sig)
	case nth == 2:
		s.runner.say("the container has not ended; stopping it (Ctrl-C once more kills it)")
		go s.runner.stop(s.watch)
	case nth == 3:
		s.runner.send(s.watch, syscall.SIGKILL)
	default:
		s.leave(&client.Exit{Code: 128 + int(sig), Err: fmt.Errorf("container %s is left alone, and may still run", client.Short(s.runner.container))})
	}
}

// count tells whether the container is there to get signals, and how many Ctrl-C it got. Until then a signal breaks its
// making off, but for those that nobody is there to get.
func (s *signals) count(sig syscall.Signal) (ctrlC int, running bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.running && sig == syscall.SIGINT:
		s.ctrlC++
	case !s.running && sig != syscall.SIGUSR1 && sig != syscall.SIGUSR2:
		s.giveUp(&client.Exit{Code: 128 + int(sig), Err: fmt.Errorf("run of %q: interrupted", s.runner.flags.request.Image)})
	}
	return s.ctrlC, s.running
}

// send passes a signal on. That the container has just ended is nobody's concern.
func (r *runner) send(ctx context.Context, sig syscall.Signal) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err := r.client.Control.Signal(ctx, &controlpb.SignalRequest{ContainerId: r.container, Signal: int32(sig)})
	if code := status.Code(err); err != nil && code != codes.FailedPrecondition && code != codes.NotFound {
		r.say("%v", r.client.Explain(fmt.Sprintf("signal %d to the container", int(sig)), err))
	}
}

func (r *runner) stop(ctx context.Context) {
	_, err := r.client.Runtime.StopContainer(ctx, &v1.StopContainerRequest{ContainerId: r.container, Timeout: 10})
	if err != nil && ctx.Err() == nil {
		r.say("%v", r.client.Explain("stop of the container", err))
	}
}

// attach follows the container to its end.
func (r *runner) attach(s *signals) error {
	s.mu.Lock()
	s.running = true
	s.mu.Unlock()
	if s.making.Err() != nil { // a signal between the start and here
		r.undo()
		return context.Cause(s.making)
	}
	terminal, err := r.raw()
	if err != nil {
		return err
	}
	defer terminal.Restore()
	ctx := s.watch
	asked := fmt.Sprintf("run of %q", r.flags.request.Image)
	st, err := r.client.Runtime.ContainerStatus(ctx, &v1.ContainerStatusRequest{ContainerId: r.container})
	if err != nil {
		return r.client.Explain(asked, err)
	}
	// The order matters: with --rm, nothing is left of the container from its end on. What asks for its end and what
	// reads its log must have hold of it before.
	w := watchEnd(ctx, r)
	read, opened := make(chan error, 1), make(chan struct{})
	go func() {
		err := r.show(ctx, s, shown{
			path: st.GetStatus().GetLogPath(), ended: w.ended, opened: sync.OnceFunc(func() { close(opened) }), terminal: terminal,
		})
		if errors.Is(err, syscall.EPIPE) {
			r.send(ctx, syscall.SIGKILL) // as SIGPIPE would end the program, were it in the pipeline itself
		}
		read <- err
	}()
	select {
	case <-opened:
	case <-w.ended:
	case logErr := <-read:
		read <- logErr
	}
	if r.flags.remove {
		if err := r.removeOnExit(ctx); err != nil {
			r.say("%v", err)
		}
	}
	<-w.ended
	logErr := <-read
	terminal.Restore()
	return r.finish(s, w.end, w.err, logErr)
}

// follow prints the container's log as it grows.
func (r *runner) follow(ctx context.Context, path string, ended <-chan struct{}, opened func()) error {
	if path == "" {
		return errors.New("it has no log")
	}
	return logs.Read(ctx, logs.Options{
		Path: path, Tail: logs.All, Follow: true, Ended: ended, Opened: opened, Stdout: r.stdout, Stderr: r.stderr,
	})
}

// watcher is the question for a container's end. The answer is there when ended is closed.
type watcher struct {
	ended chan struct{}
	end   *controlpb.WaitResponse
	err   error
}

// watchEnd asks before it returns.
func watchEnd(ctx context.Context, r *runner) *watcher {
	w := &watcher{ended: make(chan struct{})}
	wait := r.client.Wait(ctx, r.container)
	go func() {
		defer close(w.ended)
		w.end, w.err = r.end(ctx, wait)
	}()
	return w
}

// end waits for the container's end, over restarts of the daemon.
func (r *runner) end(ctx context.Context, wait func() (*controlpb.WaitResponse, error)) (*controlpb.WaitResponse, error) {
	end, err := wait()
	if err == nil || !client.Gone(err) || ctx.Err() != nil {
		return end, err
	}
	r.say("the daemon has gone; the container runs on, and so does its output")
	return waitEnd(ctx, r.client, r.container, func(text string) { r.say("%s", text) })
}

// waitEnd asks for a container's end until there is an answer that is not "I am leaving".
func waitEnd(ctx context.Context, c *client.Client, id string, say func(string)) (*controlpb.WaitResponse, error) {
	for lost := false; ; lost = true {
		end, err := c.Wait(ctx, id)()
		if err == nil || !client.Gone(err) || ctx.Err() != nil {
			return end, err
		}
		if !lost {
			say("waiting for the daemon")
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// finish says what is left to say, gives back what the pod holds, and makes the container's exit code this program's.
func (r *runner) finish(s *signals, end *controlpb.WaitResponse, err, logErr error) error {
	if left := context.Cause(s.watch); left != nil {
		if errors.Is(left, session.ErrDetached) {
			return nil
		}
		return left
	}
	if status.Code(err) == codes.NotFound {
		return errors.New("the container was removed by somebody; how it ended is not known")
	}
	if err != nil {
		return r.client.Explain("wait for the container's end", err)
	}
	if errors.Is(logErr, syscall.EPIPE) {
		r.release()
		return &client.Exit{Code: 128 + int(syscall.SIGPIPE)}
	}
	if logErr != nil {
		r.say("the container's output could not be passed on to its end: %v", logErr)
	}
	if end.OomKilled {
		r.say("the container went over its memory limit")
	}
	if end.Reason != "Completed" && end.Reason != "Error" && end.Reason != "OOMKilled" {
		r.say("the container ended with %s: %s", printable(end.Reason), printable(end.Message))
	}
	if end.LogLost > 0 {
		r.say("%d bytes of the container's output could not be written to its log", end.LogLost)
	}
	r.release()
	if end.ExitCode == 0 && logErr != nil {
		return &client.Exit{Code: client.CodeOwn} // to a script, 0 would say that it has the whole output
	}
	if end.ExitCode != 0 {
		return &client.Exit{Code: int(end.ExitCode)}
	}
	return nil
}

// release removes the pod with --rm (the daemon does so too; this is to be done when the command is), or else gives
// back its network and namespaces.
func (r *runner) release() {
	if r.flags.remove {
		r.undo()
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), undoTime)
	defer cancel()
	if _, err := r.client.Runtime.StopPodSandbox(ctx, &v1.StopPodSandboxRequest{PodSandboxId: r.pod}); err != nil {
		r.say("%v", r.client.Explain("stop of the pod", err))
	}
}
