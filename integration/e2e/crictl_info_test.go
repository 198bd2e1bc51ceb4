package e2e

import (
	"os"
	"strings"
	"testing"

	"github.com/runtimed/runtimed/integration/daemontest"
)

// What scripts and dashboards take from crictl's verbose answers has the shape that they know from other runtimes.
func TestCrictlTemplates(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	image := d.Pull()
	pod, ctr, _ := oneContainer(t, d, "web")
	run := func(args ...string) string {
		t.Helper()
		o := d.Crictl(args...)
		if o.Code != 0 {
			t.Fatalf("crictl %v ended with %d: %s%s", args, o.Code, o.Stdout, o.Stderr)
		}
		return strings.TrimSpace(o.Stdout)
	}
	for _, q := range []struct{ verb, name, template, want string }{
		{"inspect", ctr, "{{.info.sandboxID}} {{index .info.config.command 0}}", pod + " /bin/sh"},
		{"inspect", ctr, "{{index .info.runtimeSpec.process.args 0}} {{.info.profile.Seccomp.Type}}", "/bin/sh runtime/default"},
		{"inspectp", pod, "{{.info.pid}} {{.info.config.metadata.name}} {{(index .info.runtimeSpec.linux.namespaces 0).path}}", "0 web " + d.Layout.Run},
		{"inspectp", pod, "{{(index .info.cniResult.Interfaces.eth0.IPConfigs 0).IP}}", "10."},
		{"inspecti", image, "{{.info.imageSpec.architecture}} {{len .info.imageSpec.rootfs.diff_ids}} {{.info.chainID}}", "amd64 "},
		{"info", "", "{{.config.root}} {{.golang}}", d.Layout.Root + " go1."},
	} {
		args := []string{q.verb, "-o", "go-template", "--template", q.template}
		if q.name != "" {
			args = append(args, q.name)
		}
		want(t, strings.Join(args, " "), run(args...), q.want)
	}
	pid := run("inspect", "-o", "go-template", "--template", "{{.info.pid}}", ctr)
	if b, err := os.ReadFile("/proc/" + pid + "/comm"); err != nil || string(b) != "sh\n" {
		t.Errorf(".info.pid is %q: %q, %v", pid, b, err)
	}
}
