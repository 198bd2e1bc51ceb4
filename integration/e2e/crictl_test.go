package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/runtimed/runtimed/integration/daemontest"
)

// The transcript of a person with crictl, with the short ids that crictl itself prints.
func TestCrictlTranscript(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	run := func(args ...string) string {
		t.Helper()
		o := d.Crictl(args...)
		if o.Code != 0 {
			t.Fatalf("crictl %v ended with %d: %s%s", args, o.Code, o.Stdout, o.Stderr)
		}
		return o.Stdout
	}
	write := func(name, format string, args ...any) string {
		t.Helper()
		path := filepath.Join(d.Dir, name)
		if err := os.WriteFile(path, fmt.Appendf(nil, format, args...), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pod := write("pod.json", `{"metadata": {"name": "web", "namespace": "shop", "uid": "u1"}, "hostname": "web",
		"log_directory": %q, "linux": {"cgroup_parent": "%s/kubelet"}}`, d.Logs, d.CgroupRoot)
	ctr := write("ctr.json", `{"metadata": {"name": "front"}, "image": {"image": %q}, "log_path": "front.log",
		"command": ["/bin/sh", "-c", "echo hello from $(hostname); %s"]}`, d.Image, daemontest.Sleep)

	want(t, "version", run("version"), "RuntimeName:  runtimed", "RuntimeApiVersion:  v1")
	want(t, "pull", run("pull", d.Image), "Image is up to date for sha256:")
	image := column(t, run("images"), 1, 2)
	want(t, "images", run("images"), "/busybox", image)
	podID := column(t, run("runp", pod)+"\n", 0, 0)
	short := column(t, run("pods"), 1, 0)
	if len(short) != 13 || !strings.HasPrefix(podID, short) {
		t.Fatalf("crictl pods prints %q for %s", short, podID)
	}
	want(t, "pods", run("pods"), "Ready", "web", "shop")
	run("create", short, ctr, pod)
	c := column(t, run("ps", "-a"), 1, 0)
	want(t, "ps -a", run("ps", "-a"), "Created", "front")
	want(t, "start", run("start", c), c)
	want(t, "ps", run("ps"), "Running", "front", c, short)
	if got := run("exec", "-s", c, "hostname"); got != "web" {
		t.Errorf("exec -s: %q", got)
	}
	if o := d.Crictl("exec", "-s", c, "/bin/sh", "-c", "echo oops >&2; exit 7"); o.Code == 0 || !strings.Contains(o.Stderr, "7") {
		t.Errorf("exec -s of a program that fails: %+v", o)
	}
	daemontest.Eventually(t, 5*time.Second, func() error {
		if out := run("logs", c); out != "hello from web" {
			return fmt.Errorf("logs: %q", out)
		}
		return nil
	})
	want(t, "inspect", run("inspect", c), `"state": "CONTAINER_RUNNING"`)
	want(t, "inspectp", run("inspectp", short), `"state": "SANDBOX_READY"`)
	want(t, "inspecti", run("inspecti", image), d.Image)
	want(t, "info", run("info"), `"RuntimeReady"`, `"NetworkReady"`)
	want(t, "imagefsinfo", run("imagefsinfo"), d.Layout.Root, "usedBytes")
	want(t, "stop", run("stop", "-t", "5", c), c)
	want(t, "ps -a", run("ps", "-a"), "Exited")
	want(t, "rm", run("rm", c), c)
	want(t, "stopp", run("stopp", short), "Stopped sandbox "+short)
	want(t, "pods", run("pods"), "NotReady")
	want(t, "rmp", run("rmp", short), "Removed sandbox "+short)
	want(t, "rmi", run("rmi", image), d.Image)
	for _, q := range [][]string{{"pods", "-q"}, {"ps", "-a", "-q"}, {"images", "-q"}} {
		if out := run(q...); out != "" {
			t.Errorf("crictl %v after all was removed: %q", q, out)
		}
	}
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
