package cni

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/integration/daemontest"
)

// reboot does to the daemon's node what a reboot does: processes, mounts, links and rules are gone, the files below root
// are there, and the boot has another id.
func (n *node) reboot() {
	n.t.Helper()
	n.Kill9()
	for _, p := range daemontest.Processes() {
		mine := slices.ContainsFunc(p.Args, func(a string) bool { return strings.Contains(a, n.Dir+"/") })
		groups, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", p.PID))
		if p.PID != 1 && p.PID != os.Getpid() && (mine || strings.Contains(string(groups), n.CgroupRoot+"/")) {
			unix.Kill(p.PID, unix.SIGKILL)
		}
	}
	for _, dir := range []string{n.Layout.Netns, n.Layout.Run} {
		b, _ := os.ReadFile("/proc/self/mountinfo")
		for l := range strings.Lines(string(b)) {
			if at := strings.Fields(l)[4]; at == dir || strings.HasPrefix(at, dir+"/") {
				unix.Unmount(at, unix.MNT_DETACH)
			}
		}
	}
	os.RemoveAll(n.Layout.Run)
	sh(n.t, "", "ip link del cni0 2>/dev/null || true; nft flush ruleset")
	const place = "/proc/sys/kernel/random/boot_id"
	other := filepath.Join(n.t.TempDir(), "boot_id")
	if err := os.WriteFile(other, []byte("00000000-0000-4000-8000-000000000001\n"), 0o644); err != nil {
		n.t.Fatal(err)
	}
	if err := unix.Mount(other, place, "", unix.MS_BIND, ""); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { unix.Unmount(place, unix.MNT_DETACH) })
}

// TestReboot: every address is free before anybody asks, by DELs without a namespace.
func TestReboot(t *testing.T) {
	n := start(t, options{plugins: debian, files: map[string]string{"10-bridged.conflist": fmt.Sprintf(bridge, "1.0.0", "")}})
	n.ready()
	n.Pull()
	for i := range 3 {
		n.pod(fmt.Sprintf("pod%d", i), daemontest.Sleep, func(p *v1.PodSandboxConfig) {
			p.PortMappings = []*v1.PortMapping{{Protocol: v1.Protocol_TCP, HostPort: int32(8090 + i), ContainerPort: 80}}
		})
	}
	store := func() []string {
		found, _ := filepath.Glob("/var/lib/cni/networks/bridged/10.*")
		return found
	}
	if got := store(); len(got) != 3 {
		t.Fatalf("addresses %v are taken", got)
	}
	n.reboot()
	n.Restart()
	daemontest.Eventually(t, daemontest.Patience, func() error {
		if got := store(); len(got) > 0 {
			return fmt.Errorf("addresses %v are taken", got)
		}
		return nil
	})
	n.RemoveAll()
	n.nothingLeft()
}

// TestRebootWithPluginsThatHang, until something runs that they wait for: the daemon serves, and runs it.
func TestRebootWithPluginsThatHang(t *testing.T) {
	n := startActor(t, options{keys: "del_timeout = 300"})
	old, _ := n.pod("old", daemontest.Sleep, nil)
	n.act("hang", "yes")
	n.act("before.DEL", "while [ -e $dir/hang ]; do sleep 0.1; done")
	n.reboot()
	n.Restart()
	r, err := n.Conn().Runtime.PodSandboxStatus(daemontest.Ctx(t), &v1.PodSandboxStatusRequest{PodSandboxId: old})
	if err != nil || r.Status.State != v1.PodSandboxState_SANDBOX_NOTREADY {
		t.Errorf("the old pod is %v, %v", r.GetStatus().GetState(), err)
	}
	n.RunPod(n.PodConfig("what-they-wait-for")) // the false boot id, a mount on /proc, keeps containers with users of their own from their /proc
	n.act("hang", "")
	n.RemoveAll()
	n.taken(0)
	n.nothingLeft()
}
