package e2e

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/integration/daemontest"
)

func TestMain(m *testing.M) { os.Exit(daemontest.Main(m)) }

// started is a daemon that has run its first pod, and a check at the end that it left nothing.
func started(t *testing.T, o daemontest.Options) *daemontest.Daemon {
	t.Helper()
	d := daemontest.Start(t, o)
	d.Warm()
	before := d.Snapshot()
	t.Cleanup(func() {
		d.RemoveAll()
		os.RemoveAll(d.Logs)
		daemontest.Same(t, before, d.Snapshot())
	})
	return d
}

// oneContainer runs a pod with one container that sleeps.
func oneContainer(t *testing.T, d *daemontest.Daemon, name string) (pod, ctr string, p *v1.PodSandboxConfig) {
	t.Helper()
	p = d.PodConfig(name)
	pod = d.RunPod(p)
	return pod, d.RunContainer(pod, p, d.ContainerConfig("main", daemontest.Sleep)), p
}

// want fails the test unless text holds every part.
func want(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%s does not hold %q:\n%s", what, p, text)
		}
	}
}

// field is the rest of the line that begins with name, without space around it.
func field(text, name string) string {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

// sh runs a script on the node.
func sh(t *testing.T, script string) string {
	t.Helper()
	out, err := exec.Command("/bin/sh", "-ec", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return strings.TrimSpace(string(out))
}

// within fails the test when f took longer.
func within(t *testing.T, limit time.Duration, what string, f func()) {
	t.Helper()
	limit = daemontest.Slow(limit)
	begin := time.Now()
	f()
	if took := time.Since(begin); took > limit {
		t.Errorf("%s took %v, more than %v", what, took.Round(time.Millisecond), limit)
	}
}

// probing adds the program probe to a container, at /usr/probe and in its PATH.
func probing(t *testing.T, c *v1.ContainerConfig) *v1.ContainerConfig {
	t.Helper()
	c.Mounts = append(c.Mounts, &v1.Mount{HostPath: probe(t), ContainerPath: "/usr/probe/probe", Readonly: true})
	c.Envs = append(c.Envs, &v1.KeyValue{Key: "PATH", Value: []byte("/bin:/usr/probe")})
	return c
}

// probe is the path of the program on the node.
func probe(t *testing.T) string { return daemontest.Go(t, "./integration/e2e/probe") }
