package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/integration/conformance/image"
	"github.com/runtimed/runtimed/integration/conformance/report"
	"github.com/runtimed/runtimed/integration/daemontest"
	"github.com/runtimed/runtimed/integration/registrytest"
)

// run is everything that happens in the house; the result is the process's.
func run(o options) (code int) {
	t := &stage{}
	defer func() {
		if broken := recover(); broken != nil && broken != error(errStage) {
			t.close()
			panic(broken)
		}
		t.close()
		if t.failed {
			code = 1
		}
	}()
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		t.Fatalf("%v", err)
	}
	expect := report.Expect{NoAppArmor: !o.apparmor, Partial: o.focus != "", Differ: differ(t, o)}
	d := start(t, o)
	record := report.Record{Facts: facts(t, d, o)}
	record.Title = fmt.Sprintf("critest on cgroup %s", groups())
	for n := range o.runs {
		fmt.Printf("run %d of %d\n", n+1, o.runs)
		r := once(t, d, o, n+1)
		record.Runs = append(record.Runs, r)
		fmt.Println(" ", r.Summary())
		for _, problem := range append(r.Problems(expect), left(d)...) {
			t.Errorf("run %d: %s", n+1, problem)
		}
		write(t, filepath.Join(o.out, "record.md"), record.Markdown())
	}
	return 0
}

// differ are the lines of a file with names of specs; "#" begins a comment.
func differ(t *stage, o options) []string {
	if o.differ == "" {
		return nil
	}
	text, err := os.ReadFile(o.differ)
	if err != nil {
		t.Fatalf("%v", err)
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			names = append(names, line)
		}
	}
	return names
}

// start starts a registry with the images and a daemon that takes everybody's images from there.
func start(t *stage, o options) *daemontest.Daemon {
	r, err := registrytest.Start(registrytest.Options{})
	if err != nil {
		t.Fatalf("registry: %v", err)
	}
	t.Cleanup(r.Close)
	if _, err := image.Push(o.images, r); err != nil {
		t.Fatalf("%v", err)
	}
	config := fmt.Sprintf("[security]\npolicy = %q\n", o.policy)
	for _, host := range []string{"registry.k8s.io", "k8s.gcr.io", "gcr.io"} {
		config += fmt.Sprintf("[registry.%q]\nmirrors = [%q]\n", host, r.Host)
	}
	if o.config != "" {
		more, err := os.ReadFile(o.config)
		if err != nil {
			t.Fatalf("%v", err)
		}
		config += string(more)
	}
	d := daemontest.Start(t, daemontest.Options{Config: config, Cgroup: o.cgroup, Registry: r})
	t.Cleanup(func() {
		log, err := os.ReadFile(d.LogFile)
		if err := errors.Join(err, os.WriteFile(filepath.Join(o.out, "daemon.log"), log, 0o644)); err != nil {
			t.Logf("the daemon's log: %v", err)
		}
	})
	return d
}

// once runs critest.
func once(t *stage, d *daemontest.Daemon, o options, n int) report.Run {
	tmp := filepath.Join(d.Dir, "tmp")
	if err := errors.Join(os.RemoveAll(tmp), os.Mkdir(tmp, 0o755)); err != nil {
		t.Fatalf("%v", err)
	}
	file := filepath.Join(o.out, fmt.Sprintf("run%d", n))
	os.Remove(file + ".json")
	endpoint := "unix://" + d.Layout.Socket()
	args := []string{"-config=/dev/null", "-runtime-endpoint=" + endpoint, "-image-endpoint=" + endpoint, "-ginkgo.no-color",
		"-ginkgo.json-report=" + file + ".json", fmt.Sprintf("-ginkgo.seed=%d", time.Now().Unix()), "-ginkgo.focus=" + o.focus}
	if o.websocket {
		args = append(args, "-websocket-exec", "-websocket-attach", "-websocket-portforward")
	}
	log, err := os.Create(file + ".log")
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer log.Close()
	cmd := exec.Command(o.critest, append(args, o.args...)...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = tmp, append(os.Environ(), "TMPDIR="+tmp), log, log
	ended := cmd.Run()
	text, err := os.ReadFile(file + ".json")
	if err != nil {
		t.Fatalf("critest left no report: %v; see %s.log", errors.Join(ended, err), file)
	}
	r, err := report.Parse(text)
	if err != nil {
		t.Fatalf("%s.json: %v", file, err)
	}
	return r
}

// left is what is still there after a run that cleaned up after itself.
func left(d *daemontest.Daemon) []string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var problems []string
	pods, err := d.Conn().Runtime.ListPodSandbox(ctx, &v1.ListPodSandboxRequest{})
	if err != nil {
		return []string{err.Error()}
	}
	for _, p := range pods.Items {
		problems = append(problems, "pod "+p.Metadata.Name+" is left")
	}
	if o := d.CLI("doctor", "--leaks"); o.Code != 0 && len(problems) == 0 {
		problems = append(problems, "doctor --leaks: "+o.Stdout+o.Stderr)
	}
	return problems
}

// facts are the versions of everything that has a part in the result.
func facts(t *stage, d *daemontest.Daemon, o options) [][2]string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	v, err := d.Conn().Runtime.Version(ctx, &v1.VersionRequest{})
	if err != nil {
		t.Fatalf("Version: %v", err)
	}
	c, err := d.Conn().Runtime.RuntimeConfig(ctx, &v1.RuntimeConfigRequest{})
	if err != nil {
		t.Fatalf("RuntimeConfig: %v", err)
	}
	transport := "SPDY"
	if o.websocket {
		transport = "WebSocket"
	}
	return [][2]string{
		{"date", time.Now().UTC().Format(time.DateOnly)},
		{"critest", strings.TrimPrefix(strings.SplitN(output(o.critest, "-version"), "\n", 2)[0], "critest version: ")},
		{"runtimed", v.RuntimeVersion + commit()},
		{"kernel", output("uname", "-r")},
		{"cgroup", groups() + ", driver " + strings.ToLower(c.GetLinux().GetCgroupDriver().String())},
		{"AppArmor", map[bool]string{true: "on", false: "not in this kernel"}[o.apparmor]},
		{"streaming", transport},
		{"node policy", o.policy},
	}
}

// groups is the version of the machine's control groups.
func groups() string {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return "v2"
	}
	return "v1"
}

// commit is the tree's, where there is one.
func commit() string {
	if c := output("git", "-C", daemontest.Tree(), "rev-parse", "--short", "HEAD"); c != "" {
		return " (" + c + ")"
	}
	return ""
}

func output(name string, args ...string) string {
	out, _ := exec.Command(name, args...).Output()
	return strings.TrimSpace(string(out))
}

func write(t *stage, path, text string) {
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatalf("%v", err)
	}
}
