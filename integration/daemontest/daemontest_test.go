package daemontest

import (
	"os"
	"strings"
	"testing"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

// A daemon runs a pod, is killed, comes back, and takes everything down to what was there before.
func TestWholeLife(t *testing.T) {
	d := Start(t, Options{})
	d.Pull()
	d.Warm()
	before := d.Snapshot()
	p := d.PodConfig("one")
	pod := d.RunPod(p)
	c := d.RunContainer(pod, p, d.ContainerConfig("c", Sleep))
	d.Kill9()
	d.Restart()
	if got := d.Exec(c, "cat /data/seed"); got != "from the image" {
		t.Errorf("exec: %q", got)
	}
	if o := d.Crictl("ps", "-q"); o.Code != 0 || strings.TrimSpace(o.Stdout) != c {
		t.Errorf("crictl ps: %+v", o)
	}
	during := d.Snapshot()
	for _, kind := range []string{"mount", "process", "link", "rule", "cgroup", "file"} {
		if len(without(kind, "+", during[kind], before[kind])) == 0 {
			t.Errorf("a running pod shows in no %s: the snapshot is blind there", kind)
		}
	}
	d.RemoveAll()
	Same(t, before, d.Snapshot())
	d.Stop()
}

func TestDiffCounts(t *testing.T) {
	got := Diff(Snapshot{"mount": {"a", "b"}}, Snapshot{"mount": {"a", "a"}})
	if strings.Join(got, ",") != "+ mount a,- mount b" {
		t.Error(got)
	}
}
