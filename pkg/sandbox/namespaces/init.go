package namespaces

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/namespaces/wire"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

// initScore keeps the kernel from choosing the pod's tiny init when the pod is out of memory, as it keeps it from a
// pause process elsewhere: with the init the whole pod would go.
const initScore = "-998"

// StartInit starts the init of a pod that shares its PID namespace: a process in a new PID namespace, inside those
// namespaces of the pod that are pinned, in the group r.CgroupPath (made if it is not there) before it does anything. It
// reaps every orphan of the pod, ignores every signal, and is ended by killing its group. It is no child of the caller
// and outlives it. On an error nothing runs.
func (m *Manager) StartInit(ctx context.Context, r spec.InitRequest) (spec.Process, error) {
	if err := checkID(r.SandboxID); err != nil {
		return spec.Process{}, err
	}
	s := &starter{}
	var started spec.Process
	lasts := func(context.Context) error { return nil } // it goes with the pod's group
	f := step.Flow{Name: "init", ID: r.SandboxID, Observe: m.o.Observe, Steps: []step.Step{
		{Name: "group", Do: func(ctx context.Context) error { return m.o.Groups.CreateLeaf(ctx, r.CgroupPath) }, Undo: lasts},
		{Name: "fork", Do: func(ctx context.Context) error { return m.fork(ctx, s, r.SandboxID) }, Undo: s.kill},
		{Name: "join", Do: func(context.Context) error { return m.o.Groups.Join(r.CgroupPath, s.pid) }, Undo: lasts},
		{Name: "go", Do: func(ctx context.Context) (err error) { started, err = s.letGo(ctx); return err }, Undo: lasts},
	}}
	err := f.Run(ctx)
	if err != nil {
		f.Teardown(context.WithoutCancel(ctx))
	}
	s.finish()
	if err != nil {
		return spec.Process{}, m.orEnd(ctx, err)
	}
	return started, nil
}

// starter is the short-lived helper and the init that it leaves behind.
type starter struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *answers
	pid    int // of the init, on the node
	pidfd  int
}

func (m *Manager) fork(ctx context.Context, s *starter, sandboxID string) error {
	program, err := m.program()
	if err != nil {
		return err
	}
	files := []*os.File{}
	defer func() {
		for _, f := range append(files, program) {
			f.Close()
		}
	}()
	var names []string
	for _, kind := range pinned {
		f, err := openPin(m.pin(sandboxID, kind))
		if errors.Is(err, fs.ErrNotExist) {
			continue // the node's
		}
		if err != nil {
			return spec.Errorf(errdefs.ErrFailedPrecondition, "init of the pod: %w", err)
		}
		files, names = append(files, f), append(names, kind)
	}
	if len(names) == 0 {
		names = []string{"none"}
	}
	cmd := exec.CommandContext(ctx, inherited(len(files)))
	cmd.Args = []string{"runtimed-init", "init", strings.Join(names, ","), sandboxID}
	cmd.Env, cmd.Dir = helperEnv, m.dir(sandboxID)
	cmd.ExtraFiles = append(files[:len(files):len(files)], program)
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2); err != nil {
		return spec.Errorf(errdefs.ErrResourceExhausted, "init of the pod: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return spec.Errorf(errdefs.ErrInternal, "init of the pod: %w", err)
	}
	s.cmd, s.stdin, s.stdout, s.pidfd = cmd, in, newAnswers(out), -1
	return s.readPID(ctx)
}

func (s *starter) readPID(ctx context.Context) error {
	line, err := s.stdout.line(ctx)
	if err != nil {
		return err
	}
	pid, ok := wire.ParsePID(line)
	if !ok {
		return refused("init of the pod", line)
	}
	// It waits for a byte on stdin, so this pid is its own.
	if s.pidfd, err = unix.PidfdOpen(pid, 0); err != nil {
		return spec.Errorf(errdefs.ErrInternal, "init of the pod: %w", err)
	}
	s.pid = pid
	return nil
}

// letGo lets the init run and waits until it is as it will stay.
func (s *starter) letGo(ctx context.Context) (spec.Process, error) {
	// Refused without CAP_SYS_RESOURCE, and then the pod's init has the daemon's own score.
	os.WriteFile("/proc/"+strconv.Itoa(s.pid)+"/oom_score_adj", []byte(initScore), 0)
	if _, err := s.stdin.Write([]byte{'\n'}); err != nil {
		return spec.Process{}, spec.Errorf(errdefs.ErrInternal, "init of the pod: %w", err)
	}
	line, err := s.stdout.line(ctx)
	if err != nil {
		return spec.Process{}, err
	}
	if line != wire.Ready {
		return spec.Process{}, refused("init of the pod", line)
	}
	ticks, err := startTicks(s.pid)
	if err != nil {
		return spec.Process{}, spec.Errorf(errdefs.ErrInternal, "init of the pod: %w", err)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return spec.Process{}, spec.Errorf(errdefs.ErrInternal, "boot id: %w", err)
	}
	return spec.Process{PID: s.pid, StartTicks: ticks, BootID: strings.TrimSpace(string(boot))}, nil
}

// kill ends the init of a start that failed. One that was not let go ends with the helper's stdin too.
func (s *starter) kill(context.Context) error {
	if s.cmd == nil {
		return nil
	}
	s.cmd.Process.Kill()
	if s.pidfd >= 0 {
		unix.PidfdSendSignal(s.pidfd, unix.SIGKILL, nil, 0)
	}
	return nil
}

// finish reaps the helper.
func (s *starter) finish() {
	if s.cmd == nil {
		return
	}
	s.stdin.Close()
	s.cmd.Wait()
	if s.pidfd >= 0 {
		unix.Close(s.pidfd)
	}
}

// startTicks is field 22 of /proc/<pid>/stat (proc_pid_stat(5)).
func startTicks(pid int) (uint64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 20 {
		return 0, errors.New("/proc/<pid>/stat without a start time")
	}
	return strconv.ParseUint(fields[19], 10, 64)
}
