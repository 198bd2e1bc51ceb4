package stats

import (
	"strings"
	"testing"

	"github.com/runtimed/runtimed/integration/daemontest"
)

// crictl and our own command line show what is used, by a client each that knows nothing of the daemon's inside.
func TestCommandLines(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	d.Pull()
	pod, id := sleeper(t, d, "shown")
	for _, c := range []struct {
		args  []string
		run   func(...string) daemontest.Output
		wants []string
	}{
		{[]string{"stats"}, d.Crictl, []string{id[:13], "main"}},
		{[]string{"stats", "-o", "json", id}, d.Crictl, []string{`"usageCoreNanoSeconds"`, `"workingSetBytes"`, `"writableLayer"`}},
		{[]string{"statsp"}, d.Crictl, []string{pod[:13], "shown"}},
		{[]string{"statsp", "-o", "json"}, d.Crictl, []string{`"eth0"`, `"processCount"`}},
		{[]string{"metricdescs"}, d.Crictl, []string{"container_cpu_usage_seconds_total", "container_network_receive_bytes_total"}},
		{[]string{"metricsp"}, d.Crictl, []string{"container_memory_working_set_bytes", `"shown"`}},
		{[]string{"imagefsinfo"}, d.Crictl, []string{d.Layout.Images()}},
		{[]string{"stats", "--no-stream", "--interval", "200ms"}, d.CLI, []string{id[:12], "main", "/ 128MiB", "%"}},
		{[]string{"stats", "--pods", "--no-stream", "--interval", "200ms", "-o", "json"}, d.CLI, []string{`"name": "shown"`, `"receivedBytes"`, `"nanoCores"`}},
	} {
		out := c.run(c.args...)
		if out.Code != 0 {
			t.Errorf("%v: %+v", c.args, out)
		}
		for _, w := range c.wants {
			if !strings.Contains(out.Stdout, w) {
				t.Errorf("%v lacks %q:\n%s", c.args, w, out.Stdout)
			}
		}
	}
}
