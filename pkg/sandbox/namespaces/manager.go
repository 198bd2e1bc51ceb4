package namespaces

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/namespaces/wire"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

// Groups is what StartInit needs of the node's cgroups.
type Groups interface {
	// CreateLeaf makes a group that processes may enter, in every hierarchy.
	CreateLeaf(ctx context.Context, path string) error
	// Join moves a process into it, in every hierarchy.
	Join(path string, pid int) error
}

// Options are what a Manager needs; all but Observe must be set (Groups only for StartInit).
type Options struct {
	Layout spec.Layout
	// Init is the path of runtimed-init, absolute.
	Init   string
	Groups Groups
	// Observe sees the steps of Create, Remove and StartInit.
	Observe step.Observer
}

// Manager serves the Namespaces port. It keeps no state but its options; calls for different sandboxes may run at once.
type Manager struct{ o Options }

// New returns a manager. PrepareRun must have been called for its layout.
func New(o Options) *Manager { return &Manager{o: o} }

// checkID keeps an id from being anything but one name of a file.
func checkID(id string) error {
	if id == "" || len(id) > 255 || id == "." || id == ".." || strings.ContainsAny(id, "/\x00") {
		return spec.Invalidf("sandbox id %.80q is not a file name", id)
	}
	return nil
}

// program is runtimed-init as a descriptor on a read-only mount that nobody else can reach: a process of a pod that
// got hold of the init's /proc/<pid>/exe could not write to the node's file through it. A descriptor also starts where
// the pod's root may not search the directories above the file.
func (m *Manager) program() (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, m.o.Init, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err == nil {
		err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	}
	if err != nil {
		if fd >= 0 {
			unix.Close(fd)
		}
		return nil, spec.Errorf(errdefs.ErrInternal, "program %s: %w", m.o.Init, err)
	}
	return os.NewFile(uintptr(fd), m.o.Init), nil
}

// inherited is the path of the n-th of exec.Cmd's ExtraFiles, as the new process sees it.
func inherited(n int) string { return "/proc/self/fd/" + strconv.Itoa(3+n) }

// helperEnv: one thread's worth of Go, and nothing of the daemon's environment.
var helperEnv = []string{"GOMAXPROCS=1"}

// helperPatience is far above what a helper takes on a machine that is as good as stuck.
const helperPatience = 30 * time.Second

// kindOf says whose fault an errno from inside the namespaces is.
func kindOf(errno error) error {
	switch {
	case errors.Is(errno, unix.EINVAL), errors.Is(errno, unix.ERANGE), errors.Is(errno, unix.ENOENT),
		errors.Is(errno, unix.EACCES), errors.Is(errno, unix.EPERM), errors.Is(errno, unix.EISDIR), errors.Is(errno, unix.ELOOP),
		errors.Is(errno, unix.EXDEV), errors.Is(errno, unix.EOPNOTSUPP):
		return errdefs.ErrInvalidArgument
	case errors.Is(errno, unix.ENOSPC), errors.Is(errno, unix.EAGAIN), errors.Is(errno, unix.EUSERS),
		errors.Is(errno, unix.ENOMEM):
		return errdefs.ErrResourceExhausted
	}
	return errdefs.ErrInternal
}

// answers reads the lines that a helper says.
type answers struct {
	file *os.File
	r    *bufio.Reader
}

func newAnswers(pipe io.ReadCloser) *answers {
	f := pipe.(*os.File) // what exec.Cmd.StdoutPipe makes
	return &answers{file: f, r: bufio.NewReader(f)}
}

// line waits for the next line, at most helperPatience, and not beyond ctx: a forked copy of a helper that was killed
// holds the same pipe, so its end is no signal.
func (a *answers) line(ctx context.Context) (string, error) {
	a.file.SetReadDeadline(time.Now().Add(helperPatience))
	defer context.AfterFunc(ctx, func() { a.file.SetReadDeadline(time.Unix(1, 0)) })()
	line, err := a.r.ReadString('\n')
	switch {
	case err == nil:
		return line, nil
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "", spec.Errorf(errdefs.ErrUnavailable, "runtimed-init did not answer within %v", helperPatience)
	}
	return line, nil // what it said before it ended, perhaps nothing
}

// refused turns a helper's answer that is not the expected one into an error.
func refused(what, line string) error {
	reply, err := wire.ParseReply(line)
	if err != nil || reply.Err == "" {
		return spec.Errorf(errdefs.ErrInternal, "%s: the helper ended early, saying %q", what, line)
	}
	if reply.Errno == 0 {
		return spec.Errorf(errdefs.ErrInternal, "%s: %s", what, reply.Err)
	}
	return spec.Errorf(kindOf(reply.Errno), "%s: %s: %w", what, reply.Err, reply.Errno)
}

// orEnd is the end of ctx in the place of what it brought about: a killed helper, a broken pipe.
func (m *Manager) orEnd(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	return spec.Errorf(ctx.Err(), "namespaces: %w", context.Cause(ctx))
}

// dir holds a sandbox's pins.
func (m *Manager) dir(sandboxID string) string {
	return filepath.Dir(m.o.Layout.Pin(sandboxID, "user"))
}

// pin is the path of a sandbox's pin of any kind.
func (m *Manager) pin(sandboxID, kind string) string {
	if kind == "net" {
		return m.o.Layout.NetnsPin(sandboxID)
	}
	return m.o.Layout.Pin(sandboxID, kind)
}
