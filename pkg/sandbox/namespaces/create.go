package namespaces

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strconv"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/namespaces/wire"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

// pinned are the kinds in the order in which they are pinned. The user namespace is the first to come and, in Remove,
// the last to go: pins of other kinds without it would be taken for a pod with the node's ids.
var pinned = []string{"user", "net", "ipc", "uts"}

// Create makes the namespaces that r names by one clone, sets them up and pins them. Pins that an earlier attempt left
// are replaced. On an error some pins may be there: Remove takes them away. InvalidArgument: r, or a sysctl that the
// kernel refuses, by name.
func (m *Manager) Create(ctx context.Context, r spec.NamespaceRequest) error {
	if err := Check(r); err != nil {
		return err
	}
	h := &holder{}
	err := m.flow(h, r).Run(ctx)
	h.stop()
	return m.orEnd(ctx, err)
}

// flow is the one table of Create, which runs it, and Remove, which tears it down: only the id matters there. The steps
// that the holder does itself need no undo: it ends with the call.
func (m *Manager) flow(h *holder, r spec.NamespaceRequest) step.Flow {
	ends := func(context.Context) error { return nil }
	clone := step.Step{Name: "clone", Undo: ends}
	setup := step.Step{Name: "setup", Undo: ends}
	if r.User || r.Net || r.IPC || r.UTS {
		clone.Do = func(ctx context.Context) error { return m.startHolder(ctx, h, r) }
		setup.Do = h.setup
	}
	steps := []step.Step{{Name: "directory",
		Do:   func(context.Context) error { return m.emptyDir(r.SandboxID) },
		Undo: func(context.Context) error { return m.removeDir(r.SandboxID) }}, clone}
	// The pins come before the answer, because they need only the clone: they are made while the holder does the rest.
	wanted := map[string]bool{"user": r.User, "net": r.Net, "ipc": r.IPC, "uts": r.UTS}
	for _, kind := range pinned {
		pin := step.Step{Name: "pin " + kind, Undo: func(context.Context) error { return m.unpin(r.SandboxID, kind) }}
		if wanted[kind] {
			pin.Do = func(ctx context.Context) error { return m.pinHeld(ctx, h, r.SandboxID, kind) }
		}
		steps = append(steps, pin)
	}
	return step.Flow{Name: "namespaces", ID: r.SandboxID, Steps: append(steps, setup), Observe: m.o.Observe}
}

func (m *Manager) pinHeld(ctx context.Context, h *holder, sandboxID, kind string) error {
	err := m.pinOne(sandboxID, kind, h.pid)
	if err != nil {
		if why := h.setup(ctx); why != nil { // it has ended early
			return why
		}
	}
	return err
}

// holder is a short-lived process in new namespaces, and its parent, which reaps it. Both end when stdin does, also when
// the daemon dies.
type holder struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *answers
	pid    int // in the new namespaces
}

func (m *Manager) startHolder(ctx context.Context, h *holder, r spec.NamespaceRequest) error {
	b, err := setup(r)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, m.o.Init, "hold")
	cmd.Args[0], cmd.Env, cmd.Dir = "runtimed-init", helperEnv, "/"
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2); err != nil {
		return spec.Errorf(errdefs.ErrResourceExhausted, "holder of namespaces: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return spec.Errorf(errdefs.ErrInternal, "holder of namespaces: %w", err)
	}
	*h = holder{cmd: cmd, stdin: in, stdout: newAnswers(out)}
	if _, err := in.Write(b); err != nil {
		return spec.Errorf(errdefs.ErrInternal, "holder of namespaces: %w", err)
	}
	line, err := h.stdout.line(ctx)
	if err != nil {
		return err
	}
	pid, ok := wire.ParsePID(line)
	if !ok {
		return refused("new namespaces", line)
	}
	h.pid = pid
	return nil
}

// setup waits for the answer to the Setup.
func (h *holder) setup(ctx context.Context) error {
	line, err := h.stdout.line(ctx)
	if err != nil || line == wire.Ready {
		return err
	}
	return refused("new namespaces", line)
}

// stop ends the holder and reaps it.
func (h *holder) stop() {
	if h.cmd == nil {
		return
	}
	h.stdin.Close()
	h.cmd.Wait()
}

// emptyDir makes the directory of pins, without a pin of an earlier attempt.
func (m *Manager) emptyDir(sandboxID string) error {
	if err := m.unpinAll(sandboxID); err != nil {
		return err
	}
	if err := os.Mkdir(m.dir(sandboxID), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return spec.Errorf(errdefs.ErrInternal, "directory of pins: %w", err)
	}
	return nil
}

func (m *Manager) pinOne(sandboxID, kind string, pid int) error {
	path := m.pin(sandboxID, kind)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY|unix.O_NOFOLLOW, 0o600)
	if err == nil {
		err = f.Close()
	}
	if err == nil {
		err = unix.Mount("/proc/"+strconv.Itoa(pid)+"/ns/"+kind, path, "", unix.MS_BIND, "")
	}
	if err != nil {
		return spec.Errorf(errdefs.ErrInternal, "pin of the %s namespace at %s: %w", kind, path, err)
	}
	return nil
}
