package stats

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/integration/daemontest"
)

func TestMain(m *testing.M) { os.Exit(daemontest.Main(m)) }

func containerStats(t *testing.T, d *daemontest.Daemon, id string) *v1.ContainerStats {
	t.Helper()
	r, err := d.Conn().Runtime.ContainerStats(daemontest.Ctx(t), &v1.ContainerStatsRequest{ContainerId: id})
	if err != nil {
		t.Fatalf("stats of %s: %v", id, err)
	}
	return r.Stats
}

func podStats(t *testing.T, d *daemontest.Daemon, id string) *v1.PodSandboxStats {
	t.Helper()
	r, err := d.Conn().Runtime.PodSandboxStats(daemontest.Ctx(t), &v1.PodSandboxStatsRequest{PodSandboxId: id})
	if err != nil {
		t.Fatalf("stats of %s: %v", id, err)
	}
	return r.Stats
}

func listed(t *testing.T, d *daemontest.Daemon, f *v1.ContainerStatsFilter) []string {
	t.Helper()
	r, err := d.Conn().Runtime.ListContainerStats(daemontest.Ctx(t), &v1.ListContainerStatsRequest{Filter: f})
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	ids := []string{}
	for _, s := range r.Stats {
		ids = append(ids, s.Attributes.Id)
	}
	return ids
}

// sleeper starts a container whose program sleeps.
func sleeper(t *testing.T, d *daemontest.Daemon, name string) (pod, id string) {
	t.Helper()
	p := d.PodConfig(name)
	pod = d.RunPod(p)
	c := d.ContainerConfig("main", daemontest.Sleep)
	c.Linux.Resources = &v1.LinuxContainerResources{MemoryLimitInBytes: 128 << 20, CpuShares: 512, CpuPeriod: 100000, CpuQuota: 50000}
	c.Labels, c.Annotations = map[string]string{"app": name}, map[string]string{"note": name}
	return pod, d.RunContainer(pod, p, c)
}

// What a container uses is what the kernel counts, with names, in units and at a time that fit.
func TestWhatAContainerUses(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	d.Pull()
	pod, id := sleeper(t, d, "user")
	d.Exec(id, "dd if=/dev/zero of=/big bs=1M count=8 2>/dev/null; ln /big /too; mkdir /dir; sync")

	s := containerStats(t, d, id[:13])
	if s.Attributes.Id != id || s.Attributes.Metadata.Name != "main" || s.Attributes.Labels["app"] != "user" || s.Attributes.Annotations["note"] != "user" {
		t.Errorf("attributes %v", s.Attributes)
	}
	if age := time.Since(time.Unix(0, s.Cpu.Timestamp)); age < 0 || age > time.Minute || s.Memory.Timestamp != s.Cpu.Timestamp {
		t.Errorf("read at %v and %v", s.Cpu.Timestamp, s.Memory.Timestamp)
	}
	if s.WritableLayer.GetFsId().GetMountpoint() != d.Layout.Images() || s.WritableLayer.InodesUsed.Value == 0 {
		t.Errorf("a small writable layer is not told at once: %v", s.WritableLayer)
	}
	if err := near(s.WritableLayer.GetUsedBytes().GetValue(), du(t, d.Layout.Container(pod, id)+"/upper"), 2); err != nil {
		t.Error(err)
	}

	// 40 MiB that are used, and half a core for two seconds.
	d.Exec(id, "dd if=/dev/zero of=/dev/shm/used bs=1M count=40 2>/dev/null")
	before := containerStats(t, d, id)
	d.Exec(id, "timeout 2 sh -c 'while :; do :; done' || true")
	s = containerStats(t, d, id)
	used := s.Cpu.UsageCoreNanoSeconds.Value - before.Cpu.UsageCoreNanoSeconds.Value
	if used < 100e6 || used > 2e9 {
		t.Errorf("half a core for 2 s was counted as %d ns", used)
	}
	window := float64(s.Cpu.Timestamp - before.Cpu.Timestamp)
	if nano := float64(s.Cpu.UsageNanoCores.GetValue()); nano < 0.2*float64(used)/window*1e9 || nano > 600e6 {
		t.Errorf("%v nano cores; %d ns were used in %v ns", nano, used, window)
	}
	daemontest.Eventually(t, 30*time.Second, func() error { // the kernel adds up every two seconds
		m := containerStats(t, d, id).Memory
		if m.UsageBytes.Value < 40<<20 || m.WorkingSetBytes.Value > m.UsageBytes.Value || m.WorkingSetBytes.Value < 40<<20 ||
			m.AvailableBytes.Value != 128<<20-m.WorkingSetBytes.Value || m.PageFaults.Value == 0 || m.RssBytes.Value == 0 {
			return fmt.Errorf("memory %v", m)
		}
		return nil
	})
	if s.Io == nil || s.Io.Timestamp == 0 {
		t.Error("no io")
	}
	if _, err := os.Stat("/sys/fs/cgroup/unified/cpu.pressure"); err == nil && (s.Cpu.Psi.GetSome() == nil || s.Memory.Psi == nil || s.Io.Psi == nil) {
		t.Error("the kernel counts pressure, which is not told")
	}

}

// du is the size of a tree in bytes.
func du(t *testing.T, dir string) uint64 {
	t.Helper()
	out, err := exec.Command("du", "-sk", dir).Output()
	if err != nil {
		t.Fatalf("du %s: %v", dir, err)
	}
	n, err := strconv.ParseUint(strings.Fields(string(out))[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n << 10
}

func near(got, want uint64, percent float64) error {
	if off := 100 * (float64(got) - float64(want)) / float64(want); off > percent || off < -percent {
		return fmt.Errorf("%d bytes are told and %d are there: %.1f %%", got, want, off)
	}
	return nil
}

// Lists hold what runs, by every filter; an id that is not there is an error for one and nothing for a list.
func TestListsAndFilters(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	d.Pull()
	podA, a := sleeper(t, d, "a")
	podB, b := sleeper(t, d, "b")
	p := d.PodConfig("c")
	podC := d.RunPod(p)
	created := d.Create(podC, p, d.ContainerConfig("created", daemontest.Sleep))
	ended := d.RunContainer(podC, p, d.ContainerConfig("ended", "echo x >/x"))
	d.Ended(ended)

	for _, c := range []struct {
		name   string
		filter *v1.ContainerStatsFilter
		want   []string
	}{
		{"all", nil, []string{a, b}},
		{"id", &v1.ContainerStatsFilter{Id: a}, []string{a}},
		{"prefix", &v1.ContainerStatsFilter{Id: b[:12]}, []string{b}},
		{"pod", &v1.ContainerStatsFilter{PodSandboxId: podA[:12]}, []string{a}},
		{"label", &v1.ContainerStatsFilter{LabelSelector: map[string]string{"app": "b"}}, []string{b}},
		{"both", &v1.ContainerStatsFilter{Id: a, PodSandboxId: podB}, []string{}},
		{"unknown", &v1.ContainerStatsFilter{Id: "0000000000"}, []string{}},
		{"ended", &v1.ContainerStatsFilter{Id: ended}, []string{}},
	} {
		if got := listed(t, d, c.filter); strings.Join(got, " ") != strings.Join(c.want, " ") {
			t.Errorf("%s: %v, not %v", c.name, got, c.want)
		}
	}
	for _, id := range []string{created, ended} {
		s := containerStats(t, d, id)
		if s.Cpu != nil || s.Memory != nil || s.Attributes.Id != id {
			t.Errorf("a container that does not run: %v", s)
		}
	}
	if err := near(containerStats(t, d, ended).WritableLayer.GetUsedBytes().GetValue(), du(t, d.Layout.Container(podC, ended)+"/upper"), 2); err != nil {
		t.Errorf("an ended container's writable layer: %v", err)
	}
	_, err := d.Conn().Runtime.ContainerStats(daemontest.Ctx(t), &v1.ContainerStatsRequest{ContainerId: "0000000000"})
	if status.Code(err) != codes.NotFound {
		t.Errorf("a missing container: %v", err)
	}
	_, err = d.Conn().Runtime.PodSandboxStats(daemontest.Ctx(t), &v1.PodSandboxStatsRequest{PodSandboxId: "0000000000"})
	if status.Code(err) != codes.NotFound {
		t.Errorf("a missing pod: %v", err)
	}
	streams(t, d, 2, 3)

	// A pod without its network, and one that is stopped, keep nobody else out of the list.
	if err := exec.Command("umount", d.Layout.NetnsPin(podA)).Run(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Conn().Runtime.StopPodSandbox(daemontest.Ctx(t), &v1.StopPodSandboxRequest{PodSandboxId: podC}); err != nil {
		t.Fatal(err)
	}
	r, err := d.Conn().Runtime.ListPodSandboxStats(daemontest.Ctx(t), &v1.ListPodSandboxStatsRequest{})
	if err != nil || len(r.Stats) != 2 || r.Stats[0].Linux.Network != nil || r.Stats[0].Linux.Cpu == nil || r.Stats[1].Linux.Network == nil {
		t.Errorf("%v, %v", r.GetStats(), err)
	}
	if s := podStats(t, d, podC); s.Attributes.Id != podC || s.Linux.Cpu != nil {
		t.Errorf("a stopped pod: %v", s)
	}
}

// streams checks that each stream holds that many containers and pods, and ends.
func streams(t *testing.T, d *daemontest.Daemon, containers, pods int) {
	t.Helper()
	n := 0
	c, err := d.Conn().Runtime.StreamContainerStats(daemontest.Ctx(t), &v1.StreamContainerStatsRequest{})
	for err == nil {
		var r *v1.StreamContainerStatsResponse
		if r, err = c.Recv(); err == nil {
			n += len(r.ContainerStats)
		}
	}
	if !errors.Is(err, io.EOF) || n != containers {
		t.Errorf("StreamContainerStats: %d, %v", n, err)
	}
	n = 0
	p, err := d.Conn().Runtime.StreamPodSandboxStats(daemontest.Ctx(t), &v1.StreamPodSandboxStatsRequest{})
	for err == nil {
		var r *v1.StreamPodSandboxStatsResponse
		if r, err = p.Recv(); err == nil {
			n += len(r.PodSandboxStats)
		}
	}
	if !errors.Is(err, io.EOF) || n != pods {
		t.Errorf("StreamPodSandboxStats: %d, %v", n, err)
	}
	n = 0
	m, err := d.Conn().Runtime.StreamPodSandboxMetrics(daemontest.Ctx(t), &v1.StreamPodSandboxMetricsRequest{})
	for err == nil {
		var r *v1.StreamPodSandboxMetricsResponse
		if r, err = m.Recv(); err == nil {
			n += len(r.PodSandboxMetrics)
		}
	}
	if !errors.Is(err, io.EOF) || n != pods {
		t.Errorf("StreamPodSandboxMetrics: %d, %v", n, err)
	}
}

// A pod's use holds its containers', its processes and its link's traffic, and reading it leaves no thread in a namespace.
func TestWhatAPodUses(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	d.Pull()
	pod, id := sleeper(t, d, "pod")
	d.Exec(id, "nc -w 1 $(ip route | awk '/default/ {print $3}') 9 </dev/null || true") // refused: two packets
	s := podStats(t, d, pod)
	eth := s.Linux.Network.GetDefaultInterface()
	if eth.GetName() != "eth0" || eth.RxBytes.Value < 54 || eth.TxBytes.Value < 54 || len(s.Linux.Network.Interfaces) != 0 {
		t.Errorf("network %v", s.Linux.Network)
	}
	if got := s.Linux.Process.GetProcessCount().GetValue(); got != 2 { // the shell and its sleep
		t.Errorf("%d processes", got)
	}
	if len(s.Linux.Containers) != 1 || s.Linux.Cpu.UsageCoreNanoSeconds.Value < s.Linux.Containers[0].Cpu.UsageCoreNanoSeconds.Value/2 ||
		s.Linux.Memory.UsageBytes.Value == 0 || s.Attributes.Metadata.Namespace != "default" {
		t.Errorf("%v", s)
	}
	for range 200 {
		podStats(t, d, pod)
	}
	own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", d.PID()))
	if err != nil {
		t.Fatal(err)
	}
	threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", d.PID()))
	for _, th := range threads {
		if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/task/%s/ns/net", d.PID(), th.Name())); err == nil && ns != own {
			t.Errorf("thread %s of the daemon is in %s, not %s", th.Name(), ns, own)
		}
	}
	fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.PID()))
	for _, fd := range fds {
		if to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", d.PID(), fd.Name())); strings.HasPrefix(to, "net:") && to != own {
			t.Errorf("the daemon holds %s open", to)
		}
	}

	p := d.PodConfig("host")
	p.Linux.SecurityContext.NamespaceOptions.Network = v1.NamespaceMode_NODE
	if s := podStats(t, d, d.RunPod(p)); s.Linux.Network != nil || s.Linux.Cpu == nil {
		t.Errorf("a pod on the node's network: %v", s)
	}
}

// The images take what du(1) finds.
func TestImagesTakeWhatDuFinds(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	check := func(when string) {
		t.Helper()
		r, err := d.Conn().Images.ImageFsInfo(daemontest.Ctx(t), &v1.ImageFsInfoRequest{})
		if err != nil {
			t.Fatal(err)
		}
		i, c := r.ImageFilesystems[0], r.ContainerFilesystems[0]
		if i.FsId.Mountpoint != d.Layout.Images() || c.FsId.Mountpoint != i.FsId.Mountpoint || i.InodesUsed.Value == 0 {
			t.Errorf("%s: %v", when, r)
		}
		if err := near(i.UsedBytes.Value, du(t, d.Layout.Images()), 2); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	check("without an image")
	d.Pull()
	check("with one")
}
