package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/integration/daemontest"
)

// transcript is one daemon, and what was said to it through crictl so far.
type transcript struct {
	t                 *testing.T
	d                 *daemontest.Daemon
	podFile, podFile2 string
	pod, ctr          string // short ids
	used              map[string]bool
}

func newTranscript(t *testing.T) *transcript {
	x := &transcript{t: t, d: daemontest.Start(t, daemontest.Options{}), used: map[string]bool{}}
	pod := func(name string) string {
		return x.write(name+".json", fmt.Sprintf(`{"metadata": {"name": %q, "namespace": "shop", "uid": %q}, "hostname": %q,
			"log_directory": %q, "linux": {"cgroup_parent": %q}}`, name, "uid-"+name, name, x.d.Logs, x.d.CgroupParent()))
	}
	x.podFile, x.podFile2 = pod("web"), pod("second")
	return x
}

// file writes the request for a container that says hello and sleeps; more is added to it.
func (x *transcript) file(name string, more ...string) string {
	return x.write("ctr-"+name+".json", fmt.Sprintf(`{"metadata": {"name": %q}, "image": {"image": %q}, "log_path": "%s.log",
		"command": ["/bin/sh", "-c", "echo hello from $(hostname); echo second line; %s"]%s}`,
		name, x.d.Image, name, daemontest.Sleep, strings.Join(append([]string{""}, more...), ", ")))
}

func (x *transcript) write(name, text string) string {
	x.t.Helper()
	path := filepath.Join(x.d.Dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		x.t.Fatal(err)
	}
	return path
}

// command is crictl, as itself or, when it needs a terminal, below script(1).
func (x *transcript) command(args ...string) *exec.Cmd {
	x.used[args[0]] = true
	endpoint := "unix://" + x.d.Layout.Socket()
	base := []string{"--config", "/dev/null", "--runtime-endpoint", endpoint, "--image-endpoint", endpoint, "--timeout", "30s"}
	return exec.Command(filepath.Join(daemontest.Bin(x.t), "crictl"), append(base, args...)...)
}

// try runs crictl with a standard input.
func (x *transcript) try(stdin string, args ...string) daemontest.Output {
	x.t.Helper()
	return output(x.t, x.command(args...), stdin)
}

func output(t *testing.T, cmd *exec.Cmd, stdin string) daemontest.Output {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatalf("%v: %v", cmd, err)
	}
	return daemontest.Output{Stdout: strings.TrimRight(stdout.String(), "\n"), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
}

// run runs crictl, which must succeed, and returns what it printed.
func (x *transcript) run(args ...string) string {
	x.t.Helper()
	return x.with("", args...)
}

// with is run with a standard input.
func (x *transcript) with(stdin string, args ...string) string {
	x.t.Helper()
	o := x.try(stdin, args...)
	if o.Code != 0 {
		x.t.Fatalf("crictl %v ended with %d: %s%s", args, o.Code, o.Stdout, o.Stderr)
	}
	return o.Stdout
}

// terminal is run on a terminal of its own.
func (x *transcript) terminal(args ...string) string {
	x.t.Helper()
	cmd := x.command(args...)
	o := output(x.t, exec.Command("script", "-qec", strings.Join(cmd.Args, " "), "/dev/null"), "")
	if o.Code != 0 {
		x.t.Fatalf("crictl %v on a terminal ended with %d: %s%s", args, o.Code, o.Stdout, o.Stderr)
	}
	return o.Stdout
}

func (x *transcript) want(what, text string, parts ...string) {
	x.t.Helper()
	want(x.t, what, text, parts...)
}

// running is a crictl that has not ended.
type running struct {
	x    *transcript
	cmd  *exec.Cmd
	done bool

	mu  sync.Mutex
	out bytes.Buffer
}

func (r *running) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.Write(p)
}

// said is all that it wrote so far.
func (r *running) said() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.String()
}

// end ends it, which has to be possible at any moment.
func (r *running) end() {
	if r.done {
		return
	}
	r.done = true
	r.cmd.Process.Signal(unix.SIGKILL)
	r.cmd.Wait()
}

// background starts a crictl that runs until it is ended, at the latest with the test.
func (x *transcript) background(stdin string, args ...string) *running {
	x.t.Helper()
	r := &running{x: x, cmd: x.command(args...)}
	r.cmd.Stdin, r.cmd.Stdout, r.cmd.Stderr = strings.NewReader(stdin), r, r
	if err := r.cmd.Start(); err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(r.end)
	return r
}

// column is one word of a table: line and column count from 0.
func column(t *testing.T, table string, line, col int) string {
	t.Helper()
	lines := strings.Split(table, "\n")
	if line >= len(lines) || col >= len(strings.Fields(lines[line])) {
		t.Fatalf("no line %d, column %d in\n%s", line, col, table)
	}
	return strings.Fields(lines[line])[col]
}
