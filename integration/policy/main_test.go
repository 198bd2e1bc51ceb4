package policy

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/integration/daemontest"
)

func TestMain(m *testing.M) { os.Exit(daemontest.Main(m)) }

// cri is the configuration of the policy under test.
const cri = "[security]\npolicy = \"cri\"\n"

// started is a daemon that has run its first pod, and a check at the end that it left nothing.
func started(t *testing.T, config string) *daemontest.Daemon {
	t.Helper()
	d := daemontest.Start(t, daemontest.Options{Config: config})
	d.Warm()
	before := d.Snapshot()
	t.Cleanup(func() {
		d.RemoveAll()
		os.RemoveAll(d.Logs)
		daemontest.Same(t, before, d.Snapshot())
	})
	return d
}

// refused asks for a container that must not be made.
func refused(t *testing.T, d *daemontest.Daemon, pod string, c *v1.ContainerConfig, code codes.Code, says string) {
	t.Helper()
	r, err := d.Conn().Runtime.CreateContainer(daemontest.Ctx(t), &v1.CreateContainerRequest{PodSandboxId: pod, Config: c})
	if err == nil {
		t.Errorf("%s was made: %s", c.Metadata.Name, r.ContainerId)
	} else if status.Code(err) != code || !strings.Contains(err.Error(), says) {
		t.Errorf("%s: %v, want %v with %q", c.Metadata.Name, err, code, says)
	}
}

// output runs a container to its end, and returns what it wrote to its log.
func output(t *testing.T, d *daemontest.Daemon, pod string, p *v1.PodSandboxConfig, c *v1.ContainerConfig) (string, *v1.ContainerStatus) {
	t.Helper()
	s := d.Ended(d.RunContainer(pod, p, c))
	b, err := os.ReadFile(s.LogPath)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for line := range strings.Lines(string(b)) {
		if parts := strings.SplitN(line, " ", 4); len(parts) == 4 {
			text.WriteString(parts[3])
		}
	}
	return strings.TrimSpace(text.String()), s
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
