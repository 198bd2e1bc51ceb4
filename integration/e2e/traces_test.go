package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/integration/daemontest"
)

// What runs and what is mounted on the node for pods: no pause process, and of mounts only pins, shm and the run directory.
func TestTracesOnTheNode(t *testing.T) {
	d := started(t, daemontest.Options{})
	pod, id, _ := oneContainer(t, d, "traces")
	d.Exec(id, "true")
	empty := d.RunPod(d.PodConfig("empty"))

	before := programs()
	if len(before) != 1 || before["runtimed-monitor"] != 1 {
		t.Errorf("one container and two pods run %v, not one monitor", before)
	}
	for _, m := range strings.Split(sh(t, "awk '{print $5}' /proc/self/mountinfo"), "\n") {
		if !strings.HasPrefix(m, d.Dir) {
			continue
		}
		rel := strings.TrimPrefix(m, d.Dir+"/")
		allowed := rel == "run" || rel == "netns"
		for _, sid := range []string{pod, empty} {
			allowed = allowed || rel == "netns/"+sid || rel == "run/shm/"+sid || filepath.Dir(rel) == "run/ns/"+sid || rel == "run/ns/"+sid
		}
		if !allowed {
			t.Errorf("a mount of a container is seen on the node: %s", rel)
		}
	}
	// No one but the container itself holds its mounts.
	out := sh(t, "grep -l -s ' / / .* overlay ' /proc/[0-9]*/mountinfo || true")
	for _, f := range strings.Fields(out) {
		status, err := os.ReadFile(filepath.Join(filepath.Dir(f), "status"))
		if err == nil && strings.HasPrefix(field(string(status), "Name:"), "runtimed") {
			t.Errorf("%s sees a container's root", field(string(status), "Name:"))
		}
	}
}

// programs counts ours, by name.
func programs() map[string]int {
	out := map[string]int{}
	for _, p := range daemontest.Processes() {
		if name := filepath.Base(p.Args[0]); strings.HasPrefix(name, "runtimed-") {
			out[name]++
		}
	}
	return out
}

// The oldest pod's network is free as soon as it is removed, however many younger ones have been started since: no
// mount, process or descriptor of theirs holds it.
func TestOldestPodIsFreed(t *testing.T) {
	for name, propagation := range map[string]uintptr{"private": unix.MS_PRIVATE, "shared": unix.MS_SHARED} {
		t.Run(name, func(t *testing.T) {
			if err := unix.Mount("", "/", "", propagation|unix.MS_REC, ""); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, "") })
			d := started(t, daemontest.Options{})
			pod, id, _ := oneContainer(t, d, "oldest")
			ip := d.Exec(id, "ip -o -4 addr show eth0 | awk '{print $4}' | cut -d/ -f1")
			ns := d.Exec(id, "readlink /proc/self/ns/net")
			veths := sh(t, "ip -o link show type veth | wc -l")
			for i := range 10 {
				oneContainer(t, d, fmt.Sprint("younger", i))
			}
			begin := time.Now()
			d.RemovePod(pod)
			daemontest.Eventually(t, time.Second-time.Since(begin), func() error {
				// A namespace ends with its last process, mount and descriptor, in whatever mount namespace.
				if held := sh(t, "{ grep -lF '"+ns+"' /proc/[0-9]*/mountinfo; ls -l /proc/[0-9]*/ns/net /proc/[0-9]*/fd | grep -F '"+ns+"'; } 2>/dev/null || true"); held != "" {
					return fmt.Errorf("%s is held: %s", ns, held)
				}
				return nil
			})
			t.Logf("freed within %v", time.Since(begin).Round(time.Millisecond))
			if n := sh(t, "ip -o link show type veth | wc -l"); n != strconv.Itoa(atoi(veths)-1+10) {
				t.Errorf("%s links, %s before ten pods more and the oldest removed", n, veths)
			}
			if o := d.Run("ping", "-c", "1", "-W", "1", ip); o.Code == 0 {
				t.Errorf("%s still answers", ip)
			}
		})
	}
}

func atoi(s string) int { n, _ := strconv.Atoi(strings.TrimSpace(s)); return n }

// What a running container costs besides itself and the daemon, after it has logged 100 MB and was looked into once.
func TestMemoryPerContainer(t *testing.T) {
	const containers, megabytes = 20, 100
	d := started(t, daemontest.Options{})
	p := d.PodConfig("memory")
	pod := d.RunPod(p)
	var ids []string
	for i := range containers {
		c := probing(t, d.ContainerConfig(fmt.Sprint("c", i), fmt.Sprintf("probe lines %d 1024; touch /done; %s", megabytes*1024, daemontest.Sleep)))
		c.LogPath = "shared.log"
		if i > 0 {
			c.LogPath = fmt.Sprintf("c%d.log", i)
		}
		id := d.RunContainer(pod, p, c)
		daemontest.Eventually(t, daemontest.Patience, func() error {
			if _, err := d.Conn().Runtime.ExecSync(daemontest.Ctx(t), &v1.ExecSyncRequest{ContainerId: id, Cmd: []string{"true"}}); err != nil {
				return err
			}
			if o := d.Crictl("exec", "-s", id, "test", "-e", "/done"); o.Code != 0 {
				return fmt.Errorf("it still logs")
			}
			return nil
		})
		os.Remove(filepath.Join(p.LogDirectory, c.LogPath))
		ids = append(ids, id)
	}
	var pss, dirty []int
	for _, q := range daemontest.Processes() {
		if name := filepath.Base(q.Args[0]); strings.HasPrefix(name, "runtimed-") {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", q.PID))
			if err != nil {
				t.Fatal(err)
			}
			kib := func(name string) int { return atoi(strings.TrimSuffix(field(string(b), name), " kB")) }
			pss, dirty = append(pss, kib("Pss:")), append(dirty, kib("Private_Dirty:"))
		}
	}
	if len(pss) != containers {
		t.Fatalf("%d containers have %d processes of ours: %v", len(ids), len(pss), programs())
	}
	slices.Sort(pss)
	slices.Sort(dirty)
	t.Logf("per container, KiB: PSS %d (%d to %d), private dirty %d (%d to %d)", pss[10], pss[0], pss[19], dirty[10], dirty[0], dirty[19])
	if pss[10] > 1024 || dirty[10] > 1024 {
		t.Errorf("more than 1.0 MiB")
	}
}
