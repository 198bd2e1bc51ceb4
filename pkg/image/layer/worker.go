package layer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Worker starts unpack workers. It holds no state and is safe for use by several goroutines.
type Worker struct {
	// Path is the absolute path of runtimed-unpack.
	Path string
}

// Unpack has one layer unpacked and returns when the worker is gone. Where it returns an error the target holds anything:
// the caller removes it. Kinds: errdefs.ErrInvalidArgument for a bad archive or one that is not DiffID,
// ErrResourceExhausted for a limit or a full disk, ErrAborted for a worker that died or answered nonsense, ErrUnavailable
// for one that does not start or cannot read or write its files; the context's cause when it ended first.
func (w Worker) Unpack(ctx context.Context, r Request) (Result, error) {
	if err := r.check(); err != nil {
		return Result{}, err
	}
	if err := context.Cause(ctx); err != nil {
		return Result{}, err
	}
	r.Limits = r.Limits.WithDefaults()
	type answer struct {
		result Result
		err    error
	}
	done := make(chan answer, 1)
	go func() {
		// The parent-death signal follows the thread that forks, not the process (prctl(2)): this thread must stay.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		result, err := w.run(ctx, r)
		done <- answer{result, err}
	}()
	a := <-done
	return a.result, a.err
}

// run starts the worker, waits for it and judges.
func (w Worker) run(ctx context.Context, r Request) (Result, error) {
	job, err := json.Marshal(Job{
		Version: version, Compression: r.Compression, DiffID: r.DiffID, Target: r.Target, Parents: r.Parents, Limits: r.Limits,
	})
	if err != nil {
		return Result{}, err
	}
	resultR, resultW, err := os.Pipe()
	if err != nil {
		return Result{}, spec.Errorf(errdefs.ErrUnavailable, "unpack worker: %w", err)
	}
	defer resultR.Close()
	jobR, jobW, err := os.Pipe()
	if err != nil {
		resultW.Close()
		return Result{}, spec.Errorf(errdefs.ErrUnavailable, "unpack worker: %w", err)
	}
	stderr := &tail{}
	cmd := w.command(ctx, stderr)
	cmd.ExtraFiles = []*os.File{r.Blob, resultW, jobR}
	err = cmd.Start()
	resultW.Close()
	jobR.Close()
	if err != nil {
		jobW.Close()
		return Result{}, w.startError(ctx, err)
	}
	go func() {
		defer jobW.Close()
		jobW.Write(job) // a worker that does not read it answers nothing, which is what is reported
	}()
	// A worker that floods the pipe is not read any further; it dies below.
	data, _ := io.ReadAll(io.LimitReader(resultR, maxOutcome+1))
	if len(data) > maxOutcome {
		cmd.Process.Kill()
	}
	resultR.Close()
	waitErr := cmd.Wait()
	if err := context.Cause(ctx); err != nil && waitErr != nil {
		return Result{}, err
	}
	return judge(data, r.Limits, waitErr, stderr)
}

// judge weighs the answer against how the worker ended: success counts only with exit status 0.
func judge(data []byte, limits Limits, waitErr error, stderr *tail) (Result, error) {
	result, err := ParseOutcome(data, limits)
	var exit *exec.ExitError
	switch {
	case errors.As(waitErr, &exit) && (err == nil || errors.Is(err, errSilent)):
		return Result{}, spec.Errorf(errdefs.ErrAborted, "unpack worker: %s%s", exit.ProcessState, stderr.note())
	case errors.Is(err, errSilent):
		return Result{}, fmt.Errorf("%w%s", err, stderr.note())
	case err == nil && waitErr != nil:
		return Result{}, spec.Errorf(errdefs.ErrAborted, "unpack worker: %w", waitErr)
	}
	return result, err
}

func (w Worker) command(ctx context.Context, stderr io.Writer) *exec.Cmd {
	cmd := exec.CommandContext(ctx, w.Path)
	cmd.Env = []string{}
	cmd.Dir = "/"
	cmd.Stderr = stderr
	// Nothing outlives the first process of a PID namespace, so only a blocked copy of stderr could hold Wait up.
	cmd.WaitDelay = 2 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC |
			syscall.CLONE_NEWUTS | syscall.CLONE_NEWCGROUP,
		Pdeathsig: syscall.SIGKILL,
		Setsid:    true,
	}
	return cmd
}

func (w Worker) startError(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		return spec.Errorf(errdefs.ErrUnavailable, "unpack worker %q cannot be started: install runtimed-unpack beside the daemon, "+
			"or say where it is with the key libexec: %w", w.Path, err)
	}
	return spec.Errorf(errdefs.ErrUnavailable, "unpack worker: %w", err)
}

// tail keeps the first bytes that the worker wrote to stderr, which is where Go says why it panics.
type tail struct{ buf bytes.Buffer }

func (t *tail) Write(p []byte) (int, error) {
	const keep = 512
	if room := keep - t.buf.Len(); room > 0 {
		t.buf.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (t *tail) note() string {
	text := strings.TrimSpace(printable(strings.ToValidUTF8(strings.ReplaceAll(t.buf.String(), "\n", " "), "?")))
	if text == "" {
		return ""
	}
	return "; it said: " + text
}
