package launch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/launch/wire"
	"github.com/runtimed/runtimed/pkg/sandbox/process"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Groups takes down the cgroups of exec sessions whose stages were killed. A group that is not there is removed, and has
// none below it.
type Groups interface {
	Remove(ctx context.Context, path string) error
	// Below names the groups directly below path.
	Below(path string) ([]string, error)
}

// Options of a Launcher.
type Options struct {
	// Program is the absolute path of runtimed-shim.
	Program string
	// Groups may be nil: then the end of the container takes such a group down.
	Groups Groups
	// Log gets what shims complain of; nil drops it.
	Log *slog.Logger
}

// Launcher starts shims. It may be used by several goroutines.
type Launcher struct {
	program string
	groups  Groups
	log     *slog.Logger
	boot    string
	mounts  *os.File // the host's mount namespace
	large   chan struct{}
}

// New returns a launcher. It must be called in the host's mount namespace: monitors will live there.
func New(o Options) (*Launcher, error) {
	if !filepath.IsAbs(o.Program) {
		return nil, fmt.Errorf("program %q of the shim is not an absolute path", o.Program)
	}
	if err := unix.Access(o.Program, unix.X_OK); err != nil {
		return nil, &os.PathError{Op: "execute", Path: o.Program, Err: err}
	}
	boot, err := process.BootID()
	if err != nil {
		return nil, err
	}
	mounts, err := os.Open("/proc/self/ns/mnt")
	if err != nil {
		return nil, err
	}
	l := &Launcher{
		program: o.Program, groups: o.Groups, log: o.Log, boot: boot, mounts: mounts,
		large: make(chan struct{}, largeSessions),
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	return l, nil
}

// Close gives the descriptor back. Shims live on.
func (s *Launcher) Close() error { return s.mounts.Close() }

// Start runs the creator for the container whose record l names; config.json and launch.json are there. When it
// returns nil, started.json is written, the log file exists, and the program has been let go. onCreated gets the shim's
// process before it does anything; its error is returned as it is, and then nothing was made. What the creator reports
// is a *spec.StartError: nothing of the container runs then. When ctx ends first the creator is killed, its cause is
// returned, and the undo of the container's Start has to take down what there is.
func (s *Launcher) Start(ctx context.Context, l spec.Launch, onCreated func(spec.Process) error) error {
	dir := l.Layout.Container(l.SandboxID, l.ContainerID)
	report, status, err := pipe()
	if err != nil {
		return err
	}
	defer report.Close()
	told, goes, err := pipeTo()
	if err != nil {
		status.Close()
		return err
	}
	defer goes.Close()
	// Cloneflags: for Unshareflags, os/exec makes / private, and bidirectional propagation would be lost.
	c, err := startChild(s.program, []string{wire.VerbCreate, dir}, unix.CLONE_NEWNS, s.mounts, status, told)
	closeAll(status, told)
	if err != nil {
		return fmt.Errorf("start of the shim: %w", err)
	}
	err = s.begin(ctx, c, goes, onCreated)
	if err == nil {
		err = s.await(ctx, c, report)
	}
	if err != nil {
		goes.Close()
		c.killWithin(0)
		if said := c.complaints.text(); said != "" {
			s.log.Warn("a shim complained", "container", l.ContainerID, "text", said)
		}
	}
	return err
}

// begin has the process recorded and gives the go.
func (s *Launcher) begin(ctx context.Context, c *child, goes *os.File, onCreated func(spec.Process) error) error {
	p, err := process.Identify(c.handle.PID(), s.boot)
	if err != nil {
		return fmt.Errorf("the shim: %w", err)
	}
	if err := onCreated(p); err != nil {
		return err
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if _, err := goes.Write([]byte{1}); err != nil {
		return fmt.Errorf("the shim: %w", err)
	}
	return nil
}

// await reads the report.
func (s *Launcher) await(ctx context.Context, c *child, report *os.File) error {
	stop := context.AfterFunc(ctx, func() { report.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	text, err := io.ReadAll(io.LimitReader(report, wire.MaxReport+1))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("report of the shim: %w", err)
	}
	ready, failure, err := wire.ParseReport(text)
	switch {
	case ready:
		return nil
	case err == nil:
		// It has undone what it made before it reported; all that is left is its exit.
		c.killWithin(5 * time.Second)
		return &spec.StartError{Message: failure}
	default:
		c.killWithin(0)
		return &spec.StartError{Message: fmt.Sprintf("%v (%s)", err, c.ended())}
	}
}

// Alive names the process that holds the container's shim lock. It trusts no record, and a lock that cannot be read is
// held by nobody.
func (s *Launcher) Alive(l spec.Layout, sandboxID, containerID string) (pid int, alive bool) {
	path := filepath.Join(l.Container(sandboxID, containerID), spec.LockFile)
	// To ask needs no right to lock; and this process holds no lock on it that a close could drop.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil || lock.Type == unix.F_UNLCK {
		return 0, false
	}
	return int(lock.Pid), true
}
