package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/integration/daemontest"
)

// What a program in a pod finds when nobody asked for a sandbox.
func TestInsideDefaultPod(t *testing.T) {
	d := started(t, daemontest.Options{})
	p := d.PodConfig("plain")
	p.DnsConfig = &v1.DNSConfig{Servers: []string{"192.0.2.53"}, Searches: []string{"shop.test"}, Options: []string{"ndots:3"}}
	pod := d.RunPod(p)
	config := d.ContainerConfig("main", daemontest.Sleep)
	config.Linux.Resources = &v1.LinuxContainerResources{
		MemoryLimitInBytes: 64 << 20, CpuPeriod: 100000, CpuQuota: 50000, CpuShares: 512, Unified: map[string]string{"pids.max": "64"},
	}
	config.Linux.SecurityContext.NoNewPrivs = true
	ctr := d.RunContainer(pod, p, config)
	_, other, _ := oneContainer(t, d, "other")

	t.Run("user namespace", func(t *testing.T) {
		first, second := uidMap(t, d.Exec(ctr, "cat /proc/self/uid_map")), uidMap(t, d.Exec(other, "cat /proc/self/uid_map"))
		for _, m := range [][3]int{first, second} {
			if m[0] != 0 || m[1] < 0x40000000 || m[2] != 65536 {
				t.Errorf("uid map %v", m)
			}
		}
		if first[1] < second[1]+second[2] && second[1] < first[1]+first[2] {
			t.Errorf("two pods share ids: %v, %v", first, second)
		}
		if gid := d.Exec(ctr, "cat /proc/self/gid_map"); uidMap(t, gid) != first {
			t.Errorf("gid map %s, uid map %v", gid, first)
		}
	})
	t.Run("status", func(t *testing.T) {
		for _, who := range []string{"self", "1"} {
			s := d.Exec(ctr, "cat /proc/"+who+"/status")
			for name, value := range map[string]string{
				"Seccomp:": "2", "NoNewPrivs:": "1", "CapAmb:": "0000000000000000", "CapInh:": "0000000000000000",
				"CapEff:": defaultCaps, "CapPrm:": defaultCaps, "CapBnd:": defaultCaps,
			} {
				if got := field(s, name); got != value {
					t.Errorf("/proc/%s/status: %s %s, not %s", who, name, got, value)
				}
			}
		}
	})
	t.Run("paths", func(t *testing.T) {
		for path, script := range map[string]string{
			"/proc/kcore": "head -c 1 /proc/kcore | grep -q .", "/proc/keys": "test -z \"$(cat /proc/keys)\" && false", "/sys/firmware": "ls /sys/firmware/*",
			"/proc/sysrq-trigger": "echo b >/proc/sysrq-trigger", "/proc/sys": "echo 1 >/proc/sys/kernel/panic", "/sys": "mkdir /sys/fs/cgroup/memory/x",
			"unshare": "unshare -U true", "mount": "mount -t tmpfs x /tmp", "mknod": "mknod /tmp/sda b 8 0 && cat /tmp/sda", "bpf": "mount -t bpf x /tmp",
		} {
			o := d.Crictl("exec", "-s", ctr, "/bin/sh", "-c", script)
			if o.Code == 0 {
				t.Errorf("%s: %q succeeded: %s", path, script, o.Stdout)
			}
		}
	})
	t.Run("limits", func(t *testing.T) { limits(t, d, ctr) })
	t.Run("owner", func(t *testing.T) {
		if got := d.Exec(ctr, "stat -c '%n %U %G %a' /bin/busybox /data/seed /home/app /tmp /root"); got !=
			"/bin/busybox root root 755\n/data/seed root root 640\n/home/app app app 750\n/tmp root root 1777\n/root root root 700" {
			t.Error(got)
		}
		if got := d.Exec(ctr, "echo more >>/data/seed; cat /data/seed; touch /new; stat -c %u:%g /new"); got != "from the image\nmore\n0:0" {
			t.Error(got)
		}
	})
	t.Run("descriptors", func(t *testing.T) {
		if got := d.Exec(ctr, "ls /proc/1/fd | tr '\\n' ' '"); strings.TrimSpace(got) != "0 1 2" {
			t.Errorf("/proc/1/fd: %q", got)
		}
	})
	t.Run("files", func(t *testing.T) {
		want(t, "hostname", d.Exec(ctr, "hostname; cat /etc/hostname"), "plain\nplain")
		ip := strings.Fields(d.Exec(ctr, "ip -o -4 addr show eth0"))[3]
		ip, _, _ = strings.Cut(ip, "/")
		want(t, "hosts", d.Exec(ctr, "cat /etc/hosts"), "127.0.0.1", "localhost", ip, "plain")
		want(t, "resolv.conf", d.Exec(ctr, "cat /etc/resolv.conf"), "nameserver 192.0.2.53", "search shop.test", "options ndots:3")
		r, err := d.Conn().Runtime.PodSandboxStatus(daemontest.Ctx(t), &v1.PodSandboxStatusRequest{PodSandboxId: pod})
		if err != nil || r.Status.GetNetwork().GetIp() != ip || len(r.Status.GetNetwork().GetAdditionalIps()) != 1 {
			t.Errorf("the pod's status says %v, %v; inside it is %s", r.GetStatus().GetNetwork(), err, ip)
		}
	})
	t.Run("shm", func(t *testing.T) {
		second := d.RunContainer(pod, p, d.ContainerConfig("second", daemontest.Sleep))
		d.Exec(ctr, "echo shared >/dev/shm/x; grep -q ' /dev/shm tmpfs' /proc/mounts")
		if got := d.Exec(second, "cat /dev/shm/x"); got != "shared" {
			t.Errorf("/dev/shm is not the pod's: %q", got)
		}
		if a, b := d.Exec(ctr, "readlink /proc/self/ns/pid"), d.Exec(second, "readlink /proc/self/ns/pid"); a == b {
			t.Error("two containers share a PID namespace that nobody asked for")
		}
		for _, ns := range []string{"net", "ipc", "uts", "user"} {
			if a, b := d.Exec(ctr, "readlink /proc/self/ns/"+ns), d.Exec(second, "readlink /proc/self/ns/"+ns); a != b {
				t.Errorf("two containers of a pod have %s namespaces of their own: %s, %s", ns, a, b)
			}
		}
	})
	t.Run("ping and low ports", func(t *testing.T) {
		c := probing(t, d.ContainerConfig("user", daemontest.Sleep))
		c.Linux.SecurityContext.RunAsUser = &v1.Int64Value{Value: 1000}
		c.Linux.SecurityContext.Capabilities.DropCapabilities = []string{"ALL"}
		id := d.RunContainer(pod, p, c)
		want(t, "ping", d.Exec(id, "id; grep CapBnd /proc/self/status; probe ping"),
			"uid=1000(app) gid=1000(app) groups=1000(app),2000(extra)\n", "0000000000000000", "pong")
		want(t, "port 80", d.Exec(id, "probe echo 80 & sleep 0.3; probe ask tcp 127.0.0.1:80 hi; kill $!"), "echo hi")
	})
}

// defaultCaps are CRI-O's nine, in the form of /proc/PID/status: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID,
// SETPCAP and NET_BIND_SERVICE.
const defaultCaps = "00000000000005fb"

func uidMap(t *testing.T, text string) (m [3]int) {
	t.Helper()
	f := strings.Fields(text)
	if len(f) != 3 {
		t.Fatalf("uid map %q", text)
	}
	for i := range m {
		m[i], _ = strconv.Atoi(f[i])
	}
	return m
}

func v2() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return err == nil
}

// limits reads them from inside.
func limits(t *testing.T, d *daemontest.Daemon, ctr string) {
	t.Helper()
	files := map[string]string{
		"memory/memory.limit_in_bytes": "67108864", "cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000",
		"cpu/cpu.shares": "512", "pids/pids.max": "64",
	}
	if v2() {
		files = map[string]string{"memory.max": "67108864", "cpu.max": "50000 100000", "pids.max": "64"}
	}
	for file, value := range files {
		if got := d.Exec(ctr, "cat /sys/fs/cgroup/"+file); got != value {
			t.Errorf("%s is %s, not %s", file, got, value)
		}
	}
}

// A container that takes more memory than it may ends with 137 and OOMKilled, and its neighbour does not notice.
func TestOOM(t *testing.T) {
	d := started(t, daemontest.Options{})
	pod, neighbour, p := oneContainer(t, d, "oom")
	pid := d.Exec(neighbour, "cat /proc/sys/kernel/random/boot_id >/tmp/x; echo $PPID")
	config := d.ContainerConfig("hog", "exec dd if=/dev/zero of=/dev/null bs=200M")
	config.Linux.Resources.MemoryLimitInBytes = 64 << 20
	s := d.Ended(d.RunContainer(pod, p, config))
	if s.ExitCode != 137 || s.Reason != "OOMKilled" || s.FinishedAt < s.StartedAt {
		t.Errorf("the hog ended with %d, %q", s.ExitCode, s.Reason)
	}
	if s := d.Status(neighbour); s.State != v1.ContainerState_CONTAINER_RUNNING {
		t.Errorf("the neighbour is %v (%s)", s.State, pid)
	}
	d.Exec(neighbour, "cat /tmp/x")
	// A child that is killed, with a program that goes on: running, and not OOMKilled before it ends.
	config.Metadata.Name, config.Command[2] = "parent", "dd if=/dev/zero of=/dev/null bs=200M; echo child $?; exit 4"
	config.LogPath = "parent.log"
	if s := d.Ended(d.RunContainer(pod, p, config)); s.ExitCode != 4 {
		t.Errorf("a program whose child was killed ended with %d, %q", s.ExitCode, s.Reason)
	}
}

// Ends as a kubelet shows them.
func TestExitCodes(t *testing.T) {
	d := started(t, daemontest.Options{})
	pod, _, p := oneContainer(t, d, "ends")
	for i, c := range []struct {
		script string
		code   int32
		reason string
	}{{"exit 0", 0, "Completed"}, {"exit 3", 3, "Error"}, {"exec /bin/false", 1, "Error"}} {
		s := d.Ended(d.RunContainer(pod, p, d.ContainerConfig(fmt.Sprint("c", i), c.script)))
		if s.ExitCode != c.code || s.Reason != c.reason {
			t.Errorf("%q ended with %d, %q", c.script, s.ExitCode, s.Reason)
		}
	}
	c := d.ContainerConfig("missing", "")
	c.Command = []string{"/no/such/program"}
	id := d.Create(pod, p, c)
	_, err := d.Conn().Runtime.StartContainer(daemontest.Ctx(t), &v1.StartContainerRequest{ContainerId: id})
	if s := d.Status(id); err == nil || s.State != v1.ContainerState_CONTAINER_EXITED || s.ExitCode != 128 || s.Reason != "StartError" {
		t.Errorf("a missing program: %v; %v", err, s)
	}
	// A signal right after the start meets the program, which here has no handler yet and as a PID namespace's first
	// process ignores it, and nothing of ours.
	for i := range 5 {
		id := d.RunContainer(pod, p, d.ContainerConfig(fmt.Sprint("signalled", i), daemontest.Sleep))
		if _, err := d.Conn().Runtime.StopContainer(daemontest.Ctx(t), &v1.StopContainerRequest{ContainerId: id, Timeout: 1}); err != nil {
			t.Error(err)
		}
		if s := d.Status(id); s.ExitCode != 0 && s.ExitCode != 137 {
			t.Errorf("a container that was stopped at once ended with %d", s.ExitCode)
		}
	}
	// A grace period ends with SIGKILL, no sooner and not much later.
	stubborn := d.RunContainer(pod, p, d.ContainerConfig("stubborn", "trap '' TERM; touch /trapped; while :; do sleep 1; done"))
	daemontest.Eventually(t, daemontest.Patience, func() error {
		if o := d.Crictl("exec", "-s", stubborn, "test", "-e", "/trapped"); o.Code != 0 {
			return fmt.Errorf("%s", o.Stderr)
		}
		return nil
	})
	begin := time.Now()
	if _, err := d.Conn().Runtime.StopContainer(daemontest.Ctx(t), &v1.StopContainerRequest{ContainerId: stubborn, Timeout: 1}); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took < time.Second || took > daemontest.Slow(5*time.Second) || d.Status(stubborn).ExitCode != 137 {
		t.Errorf("stop after %v with %d", took, d.Status(stubborn).ExitCode)
	}
}
