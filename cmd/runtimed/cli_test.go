package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/logs"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func says(code int) func(*fakeRuntime) func(string, *os.File) {
	return func(r *fakeRuntime) func(string, *os.File) {
		return func(id string, log *os.File) {
			write(log, "stdout", "to stdout")
			write(log, "stderr", "to stderr")
			r.End(id, code)
		}
	}
}

func TestRunInTheForeground(t *testing.T) {
	for _, rm := range []bool{false, true} {
		d := serveFakes(t, "off")
		d.runtime.program = says(7)(d.runtime)
		args := []string{"run", "--name", "x"}
		if rm {
			args = append(args, "--rm")
		}
		a := d.wants(7, nil, append(args, "busybox", "echo", "-n")...)
		if a.out != "to stdout\n" || !strings.HasSuffix(a.err, "to stderr\n") {
			t.Errorf("%+v", a)
		}
		if !strings.Contains(a.err, "trust.mode is off") || !strings.Contains(a.err, "pulling busybox") {
			t.Errorf("stderr is %q", a.err)
		}
		if r := d.runtime.requests[0]; r.Name != "x" || strings.Join(r.Args, " ") != "echo -n" || r.LogPath != "container.log" {
			t.Errorf("request %+v", r)
		}
		switch left := d.pods(); {
		case rm && len(left) != 0:
			t.Errorf("--rm leaves %v", left)
		case !rm && (len(left) != 1 || left[0].State != spec.SandboxNotReady):
			t.Errorf("without --rm: %v", left)
		}
		if a := d.cli("run", "--rm", "busybox"); strings.Contains(a.err, "pulling") {
			t.Errorf("pulled again: %+v", a)
		}
	}
}

func TestRunDetached(t *testing.T) {
	d := serveFakes(t, "")
	a := d.wants(0, nil, "run", "-d", "--rm", "busybox")
	if id := strings.TrimSpace(a.out); len(id) != 64 || strings.Contains(a.err, "trust.mode") {
		t.Errorf("%+v", a)
	}
	if p := d.pods(); len(p) != 1 || !p[0].Status.RemoveOnExit || !strings.HasPrefix(p[0].Spec.Request.Metadata.Name, "run-") {
		t.Errorf("%+v", p)
	}
}

// TestRunUndoes: whatever fails, nothing of the pod is left, and the code says whose fault it was.
func TestRunUndoes(t *testing.T) {
	unknown := func(text string) error {
		return spec.Errorf(errdefs.ErrUnknown, "container abc could not be started: %s", text)
	}
	for _, c := range []struct {
		name string
		set  func(*daemon)
		code int
		says string
	}{
		{"not found", func(d *daemon) {
			d.runtime.startError = unknown(`exec: "nope": executable file not found in $PATH`)
		}, 127, "not found"},
		{"not executable", func(d *daemon) { d.runtime.startError = unknown(`exec /etc/passwd: permission denied`) }, 126, "permission denied"},
		{"a mount", func(d *daemon) {
			d.runtime.startError = unknown(`mount /data: no such file or directory`)
		}, 125, "no such file"},
		{"the pull", func(d *daemon) {
			d.images.Hook = func(_ context.Context, m string, _ spec.PullRequest) error {
				if m == "Pull" {
					return spec.Errorf(errdefs.ErrUnavailable, "registry example.org does not answer")
				}
				return nil
			}
		}, 125, `pull of "busybox": registry example.org does not answer`},
		{"the pod", hook("RunSandbox"), 125, "hooked"},
		{"the container", hook("CreateContainer"), 125, "hooked"},
		{"--rm", hook("RemoveOnExit"), 125, "hooked"},
	} {
		d := serveFakes(t, "")
		c.set(d)
		d.wants(c.code, []string{c.says}, "run", "-d", "--rm", "busybox")
		if left := d.pods(); len(left) != 0 {
			t.Errorf("%s: left %v", c.name, left)
		}
	}
}

func hook(method string) func(*daemon) {
	return func(d *daemon) {
		d.runtime.Hook = func(_ context.Context, m string) error {
			if m == method {
				return errors.New("hooked")
			}
			return nil
		}
	}
}

// TestInterrupt: a signal while the pod is made breaks it off; one behind that is the container's.
func TestInterrupt(t *testing.T) {
	d := serveFakes(t, "")
	inside := make(chan struct{})
	d.runtime.Hook = func(ctx context.Context, m string) error {
		if m != "CreateContainer" {
			return nil
		}
		close(inside)
		<-ctx.Done()
		return ctx.Err()
	}
	go func() {
		<-inside
		syscall.Kill(os.Getpid(), syscall.SIGUSR1) // nobody's
		syscall.Kill(os.Getpid(), syscall.SIGTERM)
	}()
	d.wants(143, []string{"interrupted"}, "run", "busybox")
	if left := d.pods(); len(left) != 0 {
		t.Errorf("left %v", left)
	}

	// The call is broken off, and the pod is made all the same.
	d = serveFakes(t, "")
	var once sync.Once
	d.runtime.Hook = func(ctx context.Context, m string) error {
		if m != "RunSandbox" {
			return nil
		}
		first := false
		once.Do(func() { first = true; syscall.Kill(os.Getpid(), syscall.SIGTERM); <-ctx.Done() })
		for !first && len(d.pods()) == 0 {
			time.Sleep(time.Millisecond) // equal calls are joined, as a real Runtime does
		}
		return nil
	}
	d.wants(143, []string{"interrupted"}, "run", "busybox")
	if left := d.pods(); len(left) != 0 {
		t.Errorf("left %v", left)
	}

	d = serveFakes(t, "")
	attached, heard := make(chan struct{}), make(chan struct{}, 2)
	d.runtime.Hook = func(_ context.Context, m string) error {
		switch m {
		case "Wait": // asked when signals are the container's already
			close(attached)
		case "Signal":
			heard <- struct{}{}
		}
		return nil
	}
	go func() {
		<-attached
		syscall.Kill(os.Getpid(), syscall.SIGHUP)
		<-heard
		syscall.Kill(os.Getpid(), syscall.SIGTERM)
	}()
	d.wants(143, nil, "run", "--rm", "busybox")
	if got := strings.Join(d.runtime.Signals, ","); !strings.HasSuffix(got, " 15") || !strings.Contains(got, " 1,") {
		t.Errorf("signals %s", got)
	}
}

// TestCtrlC counts: pass on, stop, kill, leave alone.
func TestCtrlC(t *testing.T) {
	d := serveFakes(t, "")
	d.wants(0, nil, "run", "-d", "--name", "x", "busybox")
	id := d.pods()[0].Containers[0].Spec.ID
	g := &globals{socket: d.socket}
	c, err := g.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	stopped := make(chan struct{})
	d.runtime.Hook = func(ctx context.Context, m string) error {
		if m == "StopContainer" {
			close(stopped)
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	var errs strings.Builder
	r := &runner{client: c, container: id, stderr: &errs}
	s := catch(t.Context(), r)
	defer s.end()
	s.running = true
	s.take(syscall.SIGUSR2)
	s.take(syscall.SIGINT)
	s.take(syscall.SIGINT)
	<-stopped
	s.take(syscall.SIGINT)
	if got := strings.Join(d.runtime.Signals, ","); got != id+" 12,"+id+" 2,"+id+" 9" {
		t.Errorf("signals %s", got)
	}
	if s.watch.Err() != nil {
		t.Error("left alone too early")
	}
	s.take(syscall.SIGINT)
	if s.watch.Err() == nil || exitCode(context.Cause(s.watch)) != 130 {
		t.Errorf("the fourth: %v", context.Cause(s.watch))
	}
}

func TestLists(t *testing.T) {
	d := serveFakes(t, "")
	d.wants(0, []string{"CONTAINER", "NAME"}, "ps")
	if a := d.cli("ps", "-o", "json"); a.out != "[]\n" {
		t.Errorf("%+v", a)
	}
	d.wants(0, nil, "run", "-d", "--name", "one", "busybox")
	d.wants(0, nil, "run", "-d", "--name", "two", "busybox")
	ids := map[string]string{}
	for _, p := range d.pods() {
		ids[p.Spec.Request.Metadata.Name] = p.Containers[0].Spec.ID
	}
	d.runtime.End(ids["two"], 3)
	a := d.wants(0, []string{ids["one"][:13], "one", "busybox", "running"}, "ps")
	if strings.Contains(a.out, "two") {
		t.Errorf("ps shows what has ended: %s", a.out)
	}
	d.wants(0, []string{"two", "exited (3)"}, "ps", "-a")
	d.wants(0, []string{"one", "default", "ready", "10.0.0.2,fd00::2"}, "pods")
	d.wants(0, []string{"busybox", "1111111111111", "4KiB"}, "images")
	var rows []container
	if err := json.Unmarshal([]byte(d.cli("ps", "-a", "-o", "json").out), &rows); err != nil || len(rows) != 2 || *rows[1].ExitCode != 3 || rows[0].ExitCode != nil {
		t.Errorf("%+v, %v", rows, err)
	}
	for _, verb := range []string{"ps", "pods", "images", "version"} {
		d.wants(125, []string{"table and json are possible"}, verb, "-o", "yaml")
		if a := d.cli(verb, "-o", "json"); !json.Valid([]byte(a.out)) {
			t.Errorf("%s: %s", verb, a.out)
		}
	}
}

func TestNamesAndEnds(t *testing.T) {
	d := serveFakes(t, "")
	d.wants(0, nil, "run", "-d", "--name", "one", "busybox")
	id := d.pods()[0].Containers[0].Spec.ID
	d.wants(125, []string{"--name", "pod"}, "run", "--name", "one", "busybox")
	d.wants(0, []string{"hello world"}, "exec", id[:10], "hello", "world")
	d.runtime.Exec = func(r spec.ExecRequest) (spec.ExecResult, error) {
		return spec.ExecResult{Stdout: []byte("o"), Stderr: []byte("e"), ExitCode: 42}, nil
	}
	if a := d.wants(42, nil, "exec", "one", "x"); a.out != "o" || a.err != "e" {
		t.Errorf("%+v", a)
	}
	d.wants(125, []string{"there is no container", `"two"`}, "exec", "two", "x")
	d.wants(125, []string{"at least 1s"}, "exec", "--timeout", "1ms", "one", "x")
	d.wants(0, []string{`"kind": "container"`, `"log_path"`, `"config"`}, "inspect", "one")
	d.wants(0, []string{`"kind": "pod"`}, "inspect", "--type", "pod", "one")
	d.wants(0, []string{`"kind": "image"`}, "inspect", "busybox")
	d.wants(125, []string{"no container, pod or image"}, "inspect", "nothing")
	d.wants(125, []string{"is running"}, "rm", "one")
	d.wants(0, []string{"one"}, "kill", "-s", "hup", "one")
	d.wants(125, []string{"-s"}, "kill", "-s", "BOGUS", "one")
	if a := d.wants(125, []string{`"two"`}, "stop", "two", "one"); a.out != "one\n" {
		t.Errorf("a failure holds up the others: %+v", a)
	}
	if p := d.pods(); p[0].State != spec.SandboxNotReady || p[0].Containers[0].State != spec.ContainerExited {
		t.Errorf("%+v", p)
	}
	d.wants(125, []string{"is not running"}, "kill", "one")
	d.wants(0, []string{"one"}, "rm", "one")
	if left := d.pods(); len(left) != 0 {
		t.Errorf("rm leaves the pod: %v", left)
	}
	d.wants(0, []string{"busybox"}, "rmi", "busybox")
	d.wants(125, []string{"no such image"}, "rmi", "busybox")
}

// TestForeignPod: of a kubelet's pod, rm takes the container alone, unless the pod is named.
func TestForeignPod(t *testing.T) {
	d := serveFakes(t, "")
	ctx := t.Context()
	sid, _ := d.runtime.RunSandbox(ctx, spec.SandboxRequest{Metadata: spec.Metadata{Name: "kube", UID: "1", Namespace: "ns"}})
	a, _ := d.runtime.CreateContainer(ctx, sid, spec.ContainerRequest{Name: "a"})
	d.runtime.CreateContainer(ctx, sid, spec.ContainerRequest{Name: "b"})
	d.runtime.StartContainer(ctx, a)
	d.wants(0, nil, "stop", "a")
	if p := d.pods(); p[0].State != spec.SandboxReady || len(p[0].Containers) != 2 {
		t.Errorf("stop touches the pod: %+v", p)
	}
	d.wants(0, nil, "rm", "b")
	if p := d.pods(); len(p) != 1 || len(p[0].Containers) != 1 {
		t.Errorf("rm: %+v", p)
	}
	d.wants(0, nil, "rm", "kube")
	if p := d.pods(); len(p) != 0 {
		t.Errorf("rm of a pod: %+v", p)
	}
	d.wants(125, []string{"nor a pod"}, "rm", "kube")
}

func TestLogs(t *testing.T) {
	d := serveFakes(t, "")
	written := make(chan struct{})
	d.runtime.program = func(_ string, log *os.File) {
		write(log, "stdout", "one")
		write(log, "stderr", "two")
		close(written)
	}
	d.wants(0, nil, "run", "-d", "--name", "x", "busybox")
	<-written
	if a := d.wants(0, nil, "logs", "x"); a.out != "one\n" || a.err != "two\n" {
		t.Errorf("%+v", a)
	}
	if a := d.wants(0, nil, "logs", "--tail", "1", "x"); a.out != "" || a.err != "two\n" {
		t.Errorf("%+v", a)
	}
	if a := d.wants(0, nil, "logs", "--since", "1h", "-t", "x"); !strings.HasPrefix(a.out, time.Now().UTC().Format("2006-01-02T")) {
		t.Errorf("%+v", a)
	}
	d.wants(125, []string{"--tail"}, "logs", "--tail", "-1", "x")
	d.wants(125, []string{"--since"}, "logs", "--since", "yesterday", "x")
	id := d.pods()[0].Containers[0].Spec.ID
	time.AfterFunc(50*time.Millisecond, func() { d.runtime.End(id, 0) })
	if a := d.wants(0, nil, "logs", "-f", "x"); a.out != "one\n" {
		t.Errorf("%+v", a)
	}
}

func TestParsers(t *testing.T) {
	for s, want := range map[string]int32{"KILL": 9, "sigterm": 15, "SIGHUP": 1, "9": 9, "64": 64, "RTMIN": 34, "SIGRTMIN+3": 37, "rtmin+30": 64,
		"": 0, "0": 0, "65": 0, "-1": 0, "NOPE": 0, "RTMIN+31": 0, "RTMIN3": 0, "RTMIN+-1": 0, "SIG": 0} {
		if n, err := parseSignal(s); n != want || (err == nil) != (want != 0) {
			t.Errorf("signal %q: %d, %v", s, n, err)
		}
	}
	for s, want := range map[string]int{"all": logs.All, "0": 0, "10": 10} {
		if n, err := parseTail(s); n != want || err != nil {
			t.Errorf("tail %q: %d, %v", s, n, err)
		}
	}
	now := time.Unix(1000, 0)
	for s, want := range map[string]time.Time{"": {}, "10s": now.Add(-10 * time.Second), "1970-01-01T00:00:01Z": time.Unix(1, 0)} {
		if got, err := parseSince(s, now); !got.Equal(want) || err != nil {
			t.Errorf("since %q: %v, %v", s, got, err)
		}
	}
	if got := printable("a\x1b[31m\nb\u202e"); got != "a?[31m?b?" {
		t.Errorf("printable: %q", got)
	}
}

func TestVersionAndPull(t *testing.T) {
	d := serveFakes(t, "off")
	d.wants(0, []string{"9.9.9", "v1"}, "version")
	d.wants(0, []string{"sha256:1111", "trust.mode is off"}, "pull", "busybox")
	t.Setenv("RUNTIMED_PASSWORD", "s3cret")
	var auth spec.RegistryAuth
	d.images.Hook = func(_ context.Context, m string, r spec.PullRequest) error {
		auth = r.Auth
		return errors.New("refused")
	}
	a := d.wants(125, []string{"refused"}, "pull", "-u", "me", "busybox")
	if auth.Username != "me" || auth.Password != "s3cret" || strings.Contains(a.err, "s3cret") {
		t.Errorf("%v: %+v", auth.Username, a)
	}
	d.stop()
	d.wants(0, []string{"none answers"}, "version")
	d.wants(125, []string{"no daemon answers", "runtimed serve"}, "ps")
}

func TestCompletionAndUsage(t *testing.T) {
	d := serveFakes(t, "")
	for _, shell := range []string{"bash", "zsh", "fish"} {
		d.wants(0, []string{"runtimed"}, "completion", shell)
	}
	for _, args := range [][]string{{"run"}, {"exec", "x"}, {"stop"}, {"kill"}, {"rm"}, {"rmi"}, {"pull"}, {"inspect"}, {"logs"}, {"ps", "x"}, {"run", "--bogus", "x"}, {"run", "--pids-limit", "0", "x"}} {
		d.wants(125, nil, args...)
	}
	d.wants(0, []string{"--rm", "--pids-limit", "--tty", "--detach-keys", "Exit codes: 125"}, "run", "--help")
}

func TestDoctor(t *testing.T) {
	d := serveFakes(t, "")
	dir := t.TempDir()
	file := dir + "/c.toml"
	text := "version = 1\nroot = \"" + dir + "/root\"\nrun = \"" + dir + "/run\"\nnetns_dir = \"" + dir + "/netns\"\nlibexec = \"" + dir + "\"\n" +
		"[cgroup]\nroot = \"/runtimed-test-doctor\"\n[network]\nbridge = \"rtdoc1\"\nnft_table = \"rtdoc1\"\nsubnet = \"10.254.98.0/24\"\nsubnet6 = \"\"\n" +
		"[userns]\nfirst_id = 2063597568\ncount = 1\n[trust]\nmode = \"off\"\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	d.wants(1, []string{"bad   programs", "→ install", "note  trust: trust.mode is off"}, "doctor", "--config", file)
	var r report
	if err := json.Unmarshal([]byte(d.cli("doctor", "-o", "json", "--config", file).out), &r); err != nil || len(r.Checks) < 10 || r.Leaks != nil {
		t.Errorf("%+v, %v", r, err)
	}
	d.wants(0, []string{"nothing is left behind"}, "doctor", "--leaks", "--config", file)
	if err := os.MkdirAll(dir+"/root/trash/x", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir+"/root/sandboxes", 0o700); err != nil {
		t.Fatal(err)
	}
	d.wants(1, []string{"directory: " + dir + "/root/trash/x", "1 leak"}, "doctor", "--leaks", "--config", file)
	d.wants(125, nil, "doctor", "--config", dir+"/none")
}
