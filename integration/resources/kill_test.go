package resources

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/integration/daemontest"
)

// planned is the daemon that dies where a plan says.
func planned(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv(daemontest.ReadyBin); dir != "" {
		return filepath.Join(dir, "daemon")
	}
	path := filepath.Join(t.TempDir(), "daemon")
	cmd := exec.Command("go", "build", "-tags=seccomp,netgo,osusergo", "-trimpath", "-buildvcs=false", "-o", path, "./integration/killmain/daemon")
	cmd.Dir = daemontest.Tree()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}

// TestKilledInAnUpdate: wherever the daemon dies, its successor's status and the kernel agree, and both are either what
// was or what was asked for.
func TestKilledInAnUpdate(t *testing.T) {
	program := planned(t)
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("the daemon with a plan was not brought along: %v", err)
	}
	asked := &v1.LinuxContainerResources{MemoryLimitInBytes: 96 * mib, MemorySwapLimitInBytes: 96 * mib, CpuQuota: 70000, CpuShares: 1024}
	done := proto.Clone(full()).(*v1.LinuxContainerResources)
	proto.Merge(done, asked)
	registry := daemontest.Start(t, daemontest.Options{NoStart: true}).Registry
	for _, c := range []struct {
		point string
		after *v1.LinuxContainerResources
	}{
		{"journal/do", full()}, {"journal/done", full()}, {"limits/do", full()}, {"limits/done", full()},
		{"recorded/do", full()}, {"recorded/done", done},
	} {
		t.Run(c.point, func(t *testing.T) {
			d := daemontest.Start(t, daemontest.Options{Program: program, Registry: registry, Env: []string{"RUNTIMED_TEST_PLAN=kill update/" + c.point + "/1"}})
			d.Image = registry.Ref("busybox:1")
			d.Pull()
			_, id := started(t, d, "killed", full())
			pid := pidOf(t, d, id)
			before := limits(t, pid)
			err := update(t, d, id, asked)
			select {
			case <-d.Exited():
			case <-time.After(daemontest.Patience):
				t.Fatalf("the daemon lives; the update said %v", err)
			}
			if err == nil {
				t.Error("a daemon that died said that all is well")
			}
			d.Restart()
			if got := shown(t, d, id); !proto.Equal(got, c.after) {
				t.Errorf("shown\n%v, not\n%v", got, c.after)
			}
			if changed := limits(t, pid) != before; changed != (c.after == done) {
				t.Errorf("the kernel has %q, and had %q", limits(t, pid), before)
			}
		})
	}
}
