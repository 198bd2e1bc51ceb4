package plugin

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
	"golang.org/x/sys/unix"
)

const (
	// MaxStdout is how much a plugin may answer, in bytes. A result with a thousand addresses has 100 KiB.
	MaxStdout = 1 << 20
	// maxStderr is how much of the other stream is read before the program is ended; keptStderr is what is kept of it.
	maxStderr  = 16 << 20
	keptStderr = 2 << 10
	// maxMessage bounds what of a plugin's words gets into an error.
	maxMessage = 1 << 10
	// leaving is how long the streams may stay open once the program has ended: a child holds them.
	leaving = 500 * time.Millisecond

	daemonVariable = "RUNTIMED_CNI"
	runVariable    = "RUNTIMED_CNI_RUN"
)

var errFlood = errors.New("it wrote more than it may")

// Exec runs plugins for libcni (invoke.Exec).
type Exec struct {
	// Daemon is a name that no other daemon of the node has: its cache directory.
	Daemon string
	version.PluginDecoder
}

var _ invoke.Exec = (*Exec)(nil)

// FindInPath returns the path of the first program of that name in dirs. One that others than its owner and group may
// write is refused: it would run as root.
func (*Exec) FindInPath(name string, dirs []string) (string, error) {
	if name == "" || name == "." || name == ".." || strings.ContainsRune(name, filepath.Separator) {
		return "", fmt.Errorf("%q is not the name of a plugin", name)
	}
	for _, dir := range dirs {
		path := filepath.Join(dir, name)
		st, err := os.Stat(path)
		if err != nil || !st.Mode().IsRegular() {
			continue
		}
		switch {
		case st.Mode()&0o002 != 0:
			return "", fmt.Errorf("plugin %s may be written by everybody: chmod o-w it", path)
		case st.Mode()&0o111 == 0:
			return "", fmt.Errorf("plugin %s is not executable: chmod +x it", path)
		}
		return path, nil
	}
	return "", fmt.Errorf("plugin %q is in none of %s", name, strings.Join(dirs, ", "))
}

// ExecPlugin runs the program and returns what it wrote. The error of a program that failed is a *types.Error with the
// program's own code and words; of one that was ended it says why. When ctx ends, so does the program with all that it
// started.
func (e *Exec) ExecPlugin(ctx context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	for tries := 0; ; tries++ {
		out, err := e.run(ctx, path, stdin, environ)
		if !errors.Is(err, unix.ETXTBSY) || tries == 20 {
			return out, err
		}
		select { // it is being installed
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(250 * time.Millisecond):
		}
	}
}

func (e *Exec) run(ctx context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	name := fmt.Sprintf("%s (%s)", filepath.Base(path), value(environ, "CNI_COMMAND"))
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("plugin %s was not run: %w", name, err)
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	run := rand.Text()
	stdout := &sink{keep: MaxStdout, most: MaxStdout, flood: func() { end(errFlood) }}
	stderr := &sink{keep: keptStderr, most: maxStderr, flood: func() { end(errFlood) }}
	cmd := exec.CommandContext(ctx, path)
	cmd.Env = append(environment(environ), daemonVariable+"="+e.Daemon, runVariable+"="+run)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = leaving
	err := cmd.Run()
	if ctx.Err() != nil && cmd.Process != nil {
		endRun(e.Daemon, run)
	}
	switch {
	case err == nil && !errors.Is(context.Cause(ctx), errFlood): // who ended well in the last moment has ended well
		return stdout.buf.Bytes(), nil
	case ctx.Err() != nil:
		return nil, ended(name, context.Cause(ctx))
	case errors.Is(err, exec.ErrWaitDelay) && cmd.ProcessState.Success():
		return stdout.buf.Bytes(), nil
	case cmd.ProcessState == nil:
		return nil, fmt.Errorf("plugin %s could not be run: %w", name, err)
	}
	return nil, failure(name, err, stdout.buf.Bytes(), stderr.buf.Bytes())
}

func ended(name string, cause error) error {
	switch {
	case errors.Is(cause, errFlood):
		return fmt.Errorf("plugin %s was killed: %w", name, cause)
	case errors.Is(cause, context.DeadlineExceeded):
		return fmt.Errorf("plugin %s was killed: its time was over: %w", name, cause)
	}
	return fmt.Errorf("plugin %s was killed: %w", name, cause)
}

// failure is what a program that ended badly says of it: an error object on stdout (CNI specification, section 5), else
// whatever it wrote.
func failure(name string, err error, stdout, stderr []byte) error {
	var said types.Error
	if json.Unmarshal(stdout, &said) == nil && (said.Msg != "" || said.Code != 0) {
		text := said.Msg
		if said.Details != "" {
			text += ": " + said.Details
		}
		return &types.Error{Code: said.Code, Msg: fmt.Sprintf("plugin %s: %s", name, clip(text))}
	}
	words := stderr
	if len(bytes.TrimSpace(words)) == 0 {
		words = stdout
	}
	return &types.Error{Code: types.ErrInternal, Msg: fmt.Sprintf("plugin %s ended with %q and said %s", name, err.Error(), clip(string(words)))}
}

// clip quotes foreign words, and bounds them.
func clip(s string) string {
	s = strings.ToValidUTF8(strings.TrimSpace(s), "�")
	if len(s) > maxMessage {
		s = strings.ToValidUTF8(s[:maxMessage], "") + "…"
	}
	return fmt.Sprintf("%q", s)
}

// own are variables of the daemon that say something to the daemon alone.
var own = []string{"NOTIFY_SOCKET=", "WATCHDOG_USEC=", "WATCHDOG_PID=", "LISTEN_FDS=", "LISTEN_PID=", "LISTEN_FDNAMES=", daemonVariable + "=", runVariable + "="}

func environment(all []string) []string {
	out := make([]string, 0, len(all)+2)
next:
	for _, kv := range all {
		for _, p := range own {
			if strings.HasPrefix(kv, p) {
				continue next
			}
		}
		out = append(out, kv)
	}
	return out
}

func value(environ []string, key string) string {
	for _, kv := range environ {
		if v, ok := strings.CutPrefix(kv, key+"="); ok {
			return v
		}
	}
	return ""
}

// sink keeps the beginning of a stream and reports when there is too much of it. It always reads on: who is killed for
// its flood must not be found blocked, nor an honest one that talks a lot.
type sink struct {
	keep, most int
	buf        bytes.Buffer
	read       int
	flood      func()
}

func (s *sink) Write(p []byte) (int, error) {
	if room := s.keep - s.buf.Len(); room > 0 {
		s.buf.Write(p[:min(room, len(p))])
	}
	if s.read += len(p); s.read > s.most {
		s.flood()
	}
	return len(p), nil
}
