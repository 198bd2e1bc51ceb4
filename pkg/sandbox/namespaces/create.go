package namespaces

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/namespaces/wire"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

// pinned are the kinds in the order in which they are pinned. The user namespace is the first to come and, in Remove,
// the last to go: pins of other kinds without it would be taken for a pod with the node's ids.
var pinned = []string{"user", "net", "ipc", "uts"}

// cloneFlags by kind.
var cloneFlags = map[string]uintptr{"user": unix.CLONE_NEWUSER, "net": unix.CLONE_NEWNET, "ipc": unix.CLONE_NEWIPC,
	"uts": unix.CLONE_NEWUTS}

// Create makes the namespaces that r names by one clone, sets them up and pins them. Pins that an earlier attempt left
// are replaced. On an error some pins may be there: Remove takes them away. InvalidArgument: r, or a sysctl that the
// kernel refuses, by name.
func (m *Manager) Create(ctx context.Context, r spec.NamespaceRequest) error {
	if err := Check(r); err != nil {
		return err
	}
	b, err := setup(r)
	if err != nil {
		return err
	}
	wanted := map[string]bool{"user": r.User, "net": r.Net, "ipc": r.IPC, "uts": r.UTS}
	h := &holder{}
	defer h.stop()
	steps := []step.Step{{Name: "directory", Do: func(context.Context) error { return m.emptyDir(r.SandboxID) }}}
	if r.User || r.Net || r.IPC || r.UTS {
		steps = append(steps,
			step.Step{Name: "clone", Do: func(ctx context.Context) error { return m.startHolder(ctx, h, r) }},
			step.Step{Name: "setup", Do: func(ctx context.Context) error { return h.setup(ctx, b) }})
	}
	for _, kind := range pinned {
		if wanted[kind] {
			steps = append(steps, step.Step{Name: "pin " + kind, Do: func(ctx context.Context) error {
				err := m.pinOne(r.SandboxID, kind, h.cmd.Process.Pid)
				if err != nil && ctx.Err() != nil {
					return context.Cause(ctx) // its end has killed the holder
				}
				return err
			}})
		}
	}
	return step.Flow{Name: "namespaces", ID: r.SandboxID, Steps: steps, Observe: m.o.Observe}.Run(ctx)
}

// holder is the short-lived process in the new namespaces. It ends when its stdin does, also when the daemon dies.
type holder struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *answers
}

func (m *Manager) startHolder(ctx context.Context, h *holder, r spec.NamespaceRequest) error {
	program, err := m.program()
	if err != nil {
		return err
	}
	defer program.Close()
	cmd := exec.CommandContext(ctx, inherited(0))
	cmd.Args = []string{"runtimed-init", "hold"}
	cmd.Env, cmd.Dir = helperEnv, "/"
	cmd.ExtraFiles = []*os.File{program}
	cmd.SysProcAttr = attributes(r)
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2); err != nil {
		return spec.Errorf(errdefs.ErrResourceExhausted, "holder of namespaces: %w", err)
	}
	if err := cmd.Start(); err != nil {
		var kind error = errdefs.ErrInternal
		switch k := kindOf(err); {
		case errors.Is(err, unix.EINVAL) && r.User:
			kind = errdefs.ErrInvalidArgument // the maps
		case k == errdefs.ErrResourceExhausted:
			kind = k
		}
		return spec.Errorf(kind, "clone into new namespaces: %w", err)
	}
	*h = holder{cmd: cmd, stdin: in, stdout: newAnswers(out)}
	return nil
}

func attributes(r spec.NamespaceRequest) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{}
	for kind, on := range map[string]bool{"user": r.User, "net": r.Net, "ipc": r.IPC, "uts": r.UTS} {
		if on {
			a.Cloneflags |= cloneFlags[kind]
		}
	}
	if r.User {
		a.UidMappings, a.GidMappings = idMap(r.UIDs), idMap(r.GIDs)
		// Or no container of the pod could ever set its groups.
		a.GidMappingsEnableSetgroups = true
		// The sysctls of IPC namespaces ask for their root's uid, not for a capability.
		a.Credential = &syscall.Credential{}
	}
	return a
}

func idMap(lines []spec.IDMapping) []syscall.SysProcIDMap {
	out := make([]syscall.SysProcIDMap, len(lines))
	for i, l := range lines {
		out[i] = syscall.SysProcIDMap{ContainerID: int(l.ContainerID), HostID: int(l.HostID), Size: int(l.Size)}
	}
	return out
}

// setup sends the Setup and waits for the answer.
func (h *holder) setup(ctx context.Context, b []byte) error {
	if _, err := h.stdin.Write(b); err != nil {
		return spec.Errorf(errdefs.ErrInternal, "holder of namespaces: %w", err)
	}
	line, err := h.stdout.line(ctx)
	if err != nil {
		return err
	}
	reply, err := wire.ParseReply(line)
	if err != nil {
		return spec.Errorf(errdefs.ErrInternal, "holder of namespaces: %w", err)
	}
	if reply.Err != "" {
		return spec.Errorf(kindOf(reply.Errno), "%s", reply.Err)
	}
	return nil
}

// stop ends the holder and reaps it.
func (h *holder) stop() {
	if h.cmd == nil {
		return
	}
	h.stdin.Close()
	h.cmd.Process.Kill() // it has nothing left to do
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
