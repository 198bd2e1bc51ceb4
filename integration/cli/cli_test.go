package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/runtimed/runtimed/integration/daemontest"
)

// warning is what run and pull say of trust.mode = "off".
const warning = "warning: trust.mode is off: the daemon takes every image unverified"

// fails tells what of an answer is not as wanted.
func want(t *testing.T, what string, got daemontest.Output, code int, stdout string) {
	t.Helper()
	if got.Code != code || got.Stdout != stdout {
		t.Errorf("%s: code %d, stdout %q, stderr %q; want code %d, stdout %q", what, got.Code, got.Stdout, got.Stderr, code, stdout)
	}
}

func contains(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%s lacks %q:\n%s", what, p, text)
		}
	}
}

// warm pulls the image and lets the first pod make what stays for good.
func warm(t *testing.T, d *daemontest.Daemon) {
	t.Helper()
	d.Pull()
	want(t, "first run", d.CLI("run", "--rm", d.Image, "true"), 0, "")
}

// TestSession is a session like the README's, from an empty store to nothing.
func TestSession(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	warm(t, d)
	before := d.Snapshot()
	want(t, "rmi", d.CLI("rmi", d.Image), 0, d.Image)

	got := d.CLI("pull", d.Image)
	if got.Code != 0 || !strings.HasPrefix(got.Stdout, "sha256:") && !strings.Contains(got.Stdout, "@sha256:") {
		t.Fatalf("pull: %+v", got)
	}
	contains(t, "pull's stderr", got.Stderr, warning)
	contains(t, "images", d.CLI("images").Stdout, "IMAGE", d.Image)

	got = d.CLI("run", "--rm", d.Image, "echo", "hello")
	want(t, "run", got, 0, "hello")
	contains(t, "run's stderr", got.Stderr, warning)

	got = d.CLI("run", "-d", "--name", "web", "-e", "COLOUR=blue", d.Image, "sh", "-c", "echo up $COLOUR; echo no >&2; "+daemontest.Sleep)
	id := got.Stdout
	if got.Code != 0 || len(id) != 64 {
		t.Fatalf("run -d: %+v", got)
	}
	contains(t, "ps", d.CLI("ps").Stdout, "CONTAINER", id[:13], "web", d.Image, "running")
	contains(t, "pods", d.CLI("pods").Stdout, "POD", "web", "ready", "10.")
	daemontest.Eventually(t, 10*time.Second, func() error {
		if got := d.CLI("logs", "web"); got.Code != 0 || got.Stdout != "up blue" || got.Stderr != "no" {
			return fmt.Errorf("logs: %+v", got)
		}
		return nil
	})
	want(t, "exec", d.CLI("exec", "web", "sh", "-c", "echo $COLOUR; id -u"), 0, "blue\n0")
	want(t, "exec by id", d.CLI("exec", id[:13], "false"), 1, "")
	want(t, "exec of what is not there", d.CLI("exec", "web", "nope"), 127, "")
	want(t, "exec of what cannot be run", d.CLI("exec", "web", "/etc/passwd"), 126, "")

	want(t, "rm of what runs", d.CLI("rm", "web"), 125, "")
	want(t, "run with the same name", d.CLI("run", "--name", "web", d.Image, "true"), 125, "")
	want(t, "rmi of what is used takes its name alone", d.CLI("rmi", d.Image), 0, d.Image)
	want(t, "rmi of what has no name any more", d.CLI("rmi", d.Image), 125, "")
	want(t, "exec in a container without an image", d.CLI("exec", "web", "cat", "/data/seed"), 0, "from the image")
	want(t, "stop", d.CLI("stop", "web"), 0, "web")
	want(t, "ps", d.CLI("ps", "-o", "json"), 0, "[]")
	contains(t, "ps -a", d.CLI("ps", "-a").Stdout, "web", "exited (0)")
	want(t, "logs of what has ended", d.CLI("logs", "--tail", "1", "-f", "web"), 0, "")
	want(t, "rm", d.CLI("rm", "web"), 0, "web")
	want(t, "pods", d.CLI("pods", "-o", "json"), 0, "[]")
	d.Pull()
	if got := d.CLI("doctor"); got.Code != 0 || !strings.Contains(got.Stdout, "trust.mode is off") {
		t.Errorf("doctor: %+v", got)
	}
	if got := d.CLI("doctor", "--leaks"); got.Code != 0 || got.Stdout != "nothing is left behind" {
		t.Errorf("doctor --leaks: %+v", got)
	}
	daemontest.Same(t, before, d.Snapshot())
}

func TestExitCodes(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	warm(t, d)
	before := d.Snapshot()
	for _, c := range []struct {
		name string
		args []string
		code int
		out  string
	}{
		{"zero", []string{"run", "--rm", d.Image, "true"}, 0, ""},
		{"seven", []string{"run", "--rm", d.Image, "sh", "-c", "echo seven; exit 7"}, 7, "seven"},
		{"a signal", []string{"run", "--rm", d.Image, "sh", "-c", "sh -c 'kill -9 $$'; exit $?"}, 137, ""},
		{"not there", []string{"run", "--rm", d.Image, "nope"}, 127, ""},
		{"not there, by path", []string{"run", "--rm", d.Image, "/bin/nope"}, 127, ""},
		{"not there, detached", []string{"run", "-d", "--rm", d.Image, "nope"}, 127, ""},
		{"not executable", []string{"run", "--rm", d.Image, "/etc/passwd"}, 126, ""},
		{"a directory", []string{"run", d.Image, "/etc"}, 126, ""},
		{"entrypoint", []string{"run", "--rm", "--entrypoint", "echo", d.Image, "a", "b"}, 0, "a b"},
		{"no such image", []string{"run", d.Registry.Ref("absent:1"), "true"}, 125, ""},
		{"no image", []string{"run"}, 125, ""},
		{"no such flag", []string{"run", "--bogus", d.Image}, 125, ""},
		{"a bad port", []string{"run", "-p", "x", d.Image}, 125, ""},
		{"no such path", []string{"run", "-v", "/nope:/x", d.Image, "true"}, 125, ""},
		{"no such user", []string{"run", "--user", "ghost", d.Image, "true"}, 125, ""},
		{"a user", []string{"run", "--rm", "--user", "app", d.Image, "id", "-u"}, 0, "1000"},
		{"a directory to begin in", []string{"run", "--rm", "-w", "/tmp", d.Image, "pwd"}, 0, "/tmp"},
		{"read-only", []string{"run", "--rm", "--read-only", d.Image, "sh", "-c", "touch /x 2>/dev/null; echo $?"}, 0, "1"},
		{"no new privileges", []string{"run", "--rm", d.Image, "grep", "NoNewPrivs", "/proc/self/status"}, 0, "NoNewPrivs:\t1"},
		{"a filter", []string{"run", "--rm", d.Image, "grep", "Seccomp:", "/proc/self/status"}, 0, "Seccomp:\t2"},
		{"flags of the command", []string{"run", "--rm", d.Image, "echo", "--rm", "-d"}, 0, "--rm -d"},
	} {
		want(t, c.name, d.CLI(c.args...), c.code, c.out)
	}
	if got := d.CLI("ps", "-a", "-o", "json"); got.Stdout != "[]" {
		t.Errorf("left: %s", got.Stdout)
	}
	daemontest.Same(t, before, d.Snapshot())
}

// TestQuickEnds: a program may end before anybody has looked: its output and its code arrive all the same.
func TestQuickEnds(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	warm(t, d)
	before := d.Snapshot()
	var wait sync.WaitGroup
	for worker := range 4 {
		wait.Go(func() {
			for i := range 12 {
				n := 1 + worker*12 + i
				got := d.CLI("run", "--rm", d.Image, "sh", "-c", fmt.Sprintf("echo out %d; echo err %[1]d >&2; exit %[1]d", n))
				if got.Code != n || got.Stdout != fmt.Sprint("out ", n) || !strings.HasSuffix(got.Stderr, fmt.Sprint("err ", n)) {
					t.Errorf("%d: %+v", n, got)
				}
			}
		})
	}
	wait.Wait()
	daemontest.Same(t, before, d.Snapshot())
}

// TestFlagsReachTheContainer: what the flags ask for is what a program inside finds.
func TestFlagsReachTheContainer(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	data := filepath.Join(d.Dir, "data")
	if err := os.Mkdir(data, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "f"), []byte("from the node"), 0o644); err != nil {
		t.Fatal(err)
	}
	got := d.CLI("run", "--rm", "-v", data+":/data:ro", "-m", "64m", "--cpus", "0.5", "--pids-limit", "77", d.Image, "sh", "-c",
		`cat /data/f; echo; touch /data/g 2>/dev/null || echo read-only; read a b c < /proc/self/uid_map; [ "$b" != 0 ] && echo mapped`)
	want(t, "volume and user namespace", got, 0, "from the node\nread-only\nmapped")
	got = d.CLI("run", "--rm", "--network", "host", "--privileged", d.Image, "sh", "-c", "cat /proc/self/uid_map | tr -s ' '; ip -o link | grep -c "+d.Bridge)
	if got.Code != 0 || !strings.HasPrefix(strings.TrimSpace(got.Stdout), "0 0 4294967295") {
		t.Errorf("host network: %+v", got)
	}
	got = d.CLI("run", "--rm", "-m", "16m", d.Image, "sh", "-c", "dd if=/dev/zero of=/dev/shm/x bs=1M count=64; tail /dev/zero")
	if got.Code != 137 || !strings.Contains(got.Stderr, "went over its memory limit") {
		t.Errorf("memory limit: %+v", got)
	}
	got = d.CLI("run", "-d", "--name", "web", "-p", "127.0.0.1:18080:8080", d.Image, "sh", "-c", "while :; do echo answer | nc -l -p 8080; done")
	if got.Code != 0 {
		t.Fatalf("publish: %+v", got)
	}
	daemontest.Eventually(t, 10*time.Second, func() error {
		if got := d.Run("busybox", "nc", "-w", "1", "127.0.0.1", "18080"); got.Stdout != "answer" {
			return fmt.Errorf("published port: %+v", got)
		}
		return nil
	})
	want(t, "rm -f", d.CLI("rm", "-f", "web"), 0, "web")
}

// command is the command line in the background.
type command struct {
	*exec.Cmd
	t   *testing.T
	out locked
	err locked
}

type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func begin(t *testing.T, d *daemontest.Daemon, args ...string) *command {
	t.Helper()
	c := &command{t: t, Cmd: exec.Command(filepath.Join(daemontest.Bin(t), "runtimed"), append([]string{"--config", d.ConfigFile}, args...)...)}
	c.Stdout, c.Stderr = &c.out, &c.err
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill() })
	return c
}

// sees waits until the output holds the text.
func (c *command) sees(text string) {
	c.t.Helper()
	daemontest.Eventually(c.t, 20*time.Second, func() error {
		if !strings.Contains(c.out.String(), text) {
			return fmt.Errorf("stdout %q, stderr %q", c.out.String(), c.err.String())
		}
		return nil
	})
}

// ends waits for the end.
func (c *command) ends(code int) {
	c.t.Helper()
	done := make(chan struct{})
	go func() { c.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		c.t.Fatalf("%v does not end; stdout %q, stderr %q", c.Args, c.out.String(), c.err.String())
	}
	if got := c.ProcessState.ExitCode(); got != code {
		c.t.Errorf("%v: code %d, want %d; stdout %q, stderr %q", c.Args, got, code, c.out.String(), c.err.String())
	}
}

func TestSignalsArePassedOn(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	d.Pull()
	script := "for s in INT TERM HUP QUIT USR1; do trap \"echo got $s\" $s; done; trap 'echo got USR2; exit 9' USR2; echo ready; while :; do sleep 0.1; done"
	c := begin(t, d, "run", "--rm", "--name", "s", d.Image, "sh", "-c", script)
	c.sees("ready")
	for _, s := range []struct {
		sig  syscall.Signal
		name string
	}{{syscall.SIGINT, "INT"}, {syscall.SIGTERM, "TERM"}, {syscall.SIGHUP, "HUP"}, {syscall.SIGQUIT, "QUIT"}, {syscall.SIGUSR1, "USR1"}} {
		c.Process.Signal(s.sig)
		c.sees("got " + s.name)
	}
	c.Process.Signal(syscall.SIGUSR2)
	c.ends(9)
	if got := d.CLI("ps", "-a", "-o", "json"); got.Stdout != "[]" {
		t.Errorf("--rm leaves %s", got.Stdout)
	}
}

// TestCtrlC: a program that ignores the first is stopped at the second, and killed at the third.
func TestCtrlC(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	d.Pull()
	c := begin(t, d, "run", "--rm", d.Image, "sh", "-c", "trap 'echo INT' INT; trap 'echo TERM' TERM; echo ready; while :; do sleep 0.1; done")
	c.sees("ready")
	c.Process.Signal(syscall.SIGINT)
	c.sees("INT")
	c.Process.Signal(syscall.SIGINT)
	c.sees("TERM")
	c.Process.Signal(syscall.SIGINT)
	c.ends(137)
	contains(t, "stderr", c.err.String(), "stopping it")
}

// TestInterruptedWhileItIsMade: nothing is left of what was begun.
func TestInterruptedWhileItIsMade(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	warm(t, d)
	before := d.Snapshot()
	for i := range 8 {
		c := begin(t, d, "run", d.Image, "sleep", "1000")
		time.Sleep(time.Duration(10+20*i) * time.Millisecond)
		c.Process.Signal(syscall.SIGTERM)
		// From the start on the signal is the container's, whose first process does not hear it.
		done := make(chan struct{})
		go func() { c.Wait(); close(done) }()
		select {
		case <-done:
			if got := c.ProcessState.ExitCode(); got != 128+15 && got != -1 {
				t.Errorf("after %d ms: code %d, stderr %q", 10+20*i, got, c.err.String())
			}
		case <-time.After(3 * time.Second):
			for _, r := range list(t, d) {
				want(t, "rm -f", d.CLI("rm", "-f", r), 0, r)
			}
			<-done
		}
	}
	for _, r := range list(t, d) {
		want(t, "rm -f", d.CLI("rm", "-f", r), 0, r)
	}
	daemontest.Same(t, before, d.Snapshot())
}

// list names all containers.
func list(t *testing.T, d *daemontest.Daemon) []string {
	t.Helper()
	var rows []struct{ Name string }
	if err := json.Unmarshal([]byte(d.CLI("ps", "-a", "-o", "json").Stdout), &rows); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, r := range rows {
		out = append(out, r.Name)
	}
	return out
}

// TestDaemonIsKilledUnderRun: output goes on without it, and the end is heard from the next one.
func TestDaemonIsKilledUnderRun(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	d.Pull()
	go1, go2 := filepath.Join(d.Dir, "x", "go1"), filepath.Join(d.Dir, "x", "go2")
	if err := os.Mkdir(filepath.Dir(go1), 0o755); err != nil {
		t.Fatal(err)
	}
	c := begin(t, d, "run", "--name", "r", "-v", filepath.Dir(go1)+":/x", d.Image, "sh", "-c",
		"echo one; while ! [ -e /x/go1 ]; do sleep 0.05; done; echo two; while ! [ -e /x/go2 ]; do sleep 0.05; done; echo three; exit 5")
	c.sees("one")
	d.Kill9()
	if got := d.CLI("doctor", "--leaks"); got.Code != 0 {
		t.Errorf("what runs while no daemon does is called a leak: %+v", got)
	}
	os.WriteFile(go1, nil, 0o644)
	c.sees("two")
	d.Restart()
	os.WriteFile(go2, nil, 0o644)
	c.ends(5)
	if got := c.out.String(); got != "one\ntwo\nthree\n" {
		t.Errorf("output is %q", got)
	}
	contains(t, "stderr", c.err.String(), "the container runs on")
	want(t, "logs", d.CLI("logs", "r"), 0, "one\ntwo\nthree")
	want(t, "rm", d.CLI("rm", "r"), 0, "r")
}

func TestDetachedIsRemovedAtItsEnd(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	warm(t, d)
	before := d.Snapshot()
	if got := d.CLI("run", "-d", "--rm", d.Image, "sh", "-c", "sleep 0.2"); got.Code != 0 {
		t.Fatalf("run: %+v", got)
	}
	daemontest.Eventually(t, 10*time.Second, func() error {
		if got := d.CLI("pods", "-o", "json"); got.Stdout != "[]" {
			return fmt.Errorf("pods: %s", got.Stdout)
		}
		return nil
	})
	daemontest.Same(t, before, d.Snapshot())
}

func TestKillAndFollow(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	d.Pull()
	if got := d.CLI("run", "-d", "--name", "k", d.Image, "sh", "-c", "trap 'echo hup' HUP; echo ready; while :; do sleep 0.1; done"); got.Code != 0 {
		t.Fatalf("run: %+v", got)
	}
	c := begin(t, d, "logs", "-f", "k")
	c.sees("ready")
	want(t, "kill -s HUP", d.CLI("kill", "-s", "HUP", "k"), 0, "k")
	c.sees("hup")
	want(t, "kill", d.CLI("kill", "k"), 0, "k")
	c.ends(0)
	var all []struct {
		Kind   string
		Status struct{ Reason, State string }
		Info   map[string]json.RawMessage
	}
	daemontest.Eventually(t, 10*time.Second, func() error {
		got := d.CLI("inspect", "k")
		if err := json.Unmarshal([]byte(got.Stdout), &all); err != nil || all[0].Status.State != "CONTAINER_EXITED" {
			return fmt.Errorf("inspect: %+v, %v", got, err)
		}
		return nil
	})
	if all[0].Kind != "container" || len(all[0].Info) == 0 {
		t.Errorf("inspect: %+v", all)
	}
	want(t, "kill of what has ended", d.CLI("kill", "k"), 125, "")
	want(t, "rm", d.CLI("rm", "k"), 0, "k")
	want(t, "rm of what is not there", d.CLI("rm", "k"), 125, "")
}

func TestWithoutADaemon(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	d.Stop()
	for _, args := range [][]string{{"ps"}, {"run", "busybox"}, {"pull", "busybox"}, {"stop", "x"}, {"inspect", "x"}, {"rm", "x"}, {"logs", "x"}} {
		got := d.CLI(args...)
		if got.Code != 125 || !strings.Contains(got.Stderr, "runtimed serve") || strings.Contains(got.Stderr, "rpc error") {
			t.Errorf("%v: %+v", args, got)
		}
	}
	if got := d.CLI("version"); got.Code != 0 || !strings.Contains(got.Stdout, "none answers") {
		t.Errorf("version: %+v", got)
	}
	if got := d.CLI("doctor", "--leaks"); got.Code != 0 {
		t.Errorf("doctor --leaks without a daemon: %+v", got)
	}
	if !slices.Contains([]int{0, 1}, d.CLI("doctor").Code) {
		t.Error("doctor could not look")
	}
}
