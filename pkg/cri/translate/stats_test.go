package translate

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func ptr[T any](v T) *T { return &v }

// fullStats has every field filled.
func fullStats() spec.SandboxStats {
	at := time.Unix(1000, 5)
	stalls := func(n time.Duration) *spec.Stalls {
		return &spec.Stalls{Some: spec.Stall{Total: n * time.Second, Avg10: 1, Avg60: 2, Avg300: 3}, Full: spec.Stall{Total: n * time.Second / 2}}
	}
	group := func() *spec.GroupUse {
		return &spec.GroupUse{
			At:  at,
			CPU: spec.CPUUse{Total: 90 * time.Second, User: 60 * time.Second, System: 30 * time.Second, Periods: 7, Throttled: 3, ThrottledFor: 4 * time.Second},
			Memory: &spec.MemoryUse{Usage: 100, Limit: 150, MaxUsage: 120, RSS: 60, Cache: 30, Mapped: 5, Kernel: 7, ActiveFile: 10, InactiveFile: 20,
				PageFaults: 8, MajorFaults: 2, Failures: 3, OOMKills: 1},
			Swap: &spec.SwapUse{Usage: 6, Limit: 50}, Tasks: &spec.TasksUse{Current: 5, Limit: 32},
			CPUStall: stalls(10), MemoryStall: stalls(20), IOStall: stalls(30),
			Devices: []spec.DeviceUse{{Device: "/dev/sda", Major: 8, ReadBytes: 1, WriteBytes: 2, ReadCount: 3, WriteCount: 4}},
		}
	}
	v := spec.ContainerView{State: spec.ContainerRunning, Facts: spec.Facts{Started: &spec.Started{StartedAt: 77e9}}}
	v.Spec = spec.Container{ID: "cid", SandboxID: "sid", Request: spec.ContainerRequest{
		Name: "main", Attempt: 2, UserImage: "busybox:1", Labels: map[string]string{"l": "1"}, Annotations: map[string]string{"a": "2"},
		Resources: &spec.Resources{CPUPeriod: 50000, CPUQuota: 25000, CPUShares: 512, MemoryLimit: 150, MemorySwap: 200},
	}}
	c := spec.ContainerStats{
		Container: v, Group: group(), NanoCores: ptr(uint64(250)), FsMount: "/images", Disk: &spec.DiskUse{At: at, Bytes: 4096, Inodes: 3},
		Detail: &spec.ContainerDetail{Processes: 2, Descriptors: ptr(uint64(9)), Sockets: ptr(uint64(4)), SoftDescriptors: ptr(uint64(1024)),
			FileSystem: &spec.FileSystem{Device: "/dev/sdb", Bytes: 1 << 30, Inodes: 1000, FreeInodes: 900}},
	}
	s := spec.SandboxStats{
		Group: group(), NanoCores: ptr(uint64(300)), Processes: ptr(uint64(6)), LinksAt: at, Containers: []spec.ContainerStats{c},
		Links: []spec.LinkUse{{Name: "eth0", RxBytes: 1, RxPackets: 2, RxErrors: 3, RxDropped: 4, TxBytes: 5, TxPackets: 6, TxErrors: 7, TxDropped: 8}, {Name: "net1", RxBytes: 9}},
	}
	s.Sandbox.Spec = spec.Sandbox{ID: "sid", Request: spec.SandboxRequest{
		Metadata: spec.Metadata{Name: "web", Namespace: "ns", UID: "u", Attempt: 1}, Labels: map[string]string{"pl": "1"}, Annotations: map[string]string{"pa": "2"},
	}}
	return s
}

func TestContainerStats(t *testing.T) {
	n := func(v uint64) *v1.UInt64Value { return &v1.UInt64Value{Value: v} }
	at := int64(1000e9 + 5)
	psi := func(n uint64) *v1.PsiStats {
		return &v1.PsiStats{Some: &v1.PsiData{Total: n * 1e9, Avg10: 1, Avg60: 2, Avg300: 3}, Full: &v1.PsiData{Total: n * 5e8}}
	}
	want := &v1.ContainerStats{
		Attributes: &v1.ContainerAttributes{Id: "cid", Metadata: &v1.ContainerMetadata{Name: "main", Attempt: 2},
			Labels: map[string]string{"l": "1"}, Annotations: map[string]string{"a": "2"}},
		Cpu: &v1.CpuUsage{Timestamp: at, UsageCoreNanoSeconds: n(90e9), UsageNanoCores: n(250), Psi: psi(10)},
		Memory: &v1.MemoryUsage{Timestamp: at, WorkingSetBytes: n(80), AvailableBytes: n(70), UsageBytes: n(100), RssBytes: n(60),
			PageFaults: n(8), MajorPageFaults: n(2), Psi: psi(20)},
		WritableLayer: &v1.FilesystemUsage{Timestamp: at, FsId: &v1.FilesystemIdentifier{Mountpoint: "/images"}, UsedBytes: n(4096), InodesUsed: n(3)},
		Swap:          &v1.SwapUsage{Timestamp: at, SwapAvailableBytes: n(44), SwapUsageBytes: n(6)},
		Io:            &v1.IoUsage{Timestamp: at, Psi: psi(30)},
	}
	s := fullStats()
	if got := ContainerStats(s.Containers[0]); !proto.Equal(want, got) {
		t.Errorf("got\n%v\nwant\n%v", got, want)
	}
	pod := SandboxStats(s)
	if pod.Attributes.Metadata.Namespace != "ns" || pod.Attributes.Labels["pl"] != "1" || pod.Attributes.Annotations["pa"] != "2" ||
		pod.Linux.Process.ProcessCount.Value != 6 || pod.Linux.Cpu.UsageNanoCores.Value != 300 || !proto.Equal(pod.Linux.Containers[0], want) ||
		pod.Linux.Network.DefaultInterface.Name != "eth0" || pod.Linux.Network.DefaultInterface.TxErrors.Value != 7 || len(pod.Linux.Network.Interfaces) != 1 {
		t.Errorf("pod %v", pod)
	}
}

// What the kernel does not count, or has no limit for, is left out and never made up.
func TestStatsThatAreNotThere(t *testing.T) {
	s := fullStats()
	c := &s.Containers[0]
	c.Group.Memory.Limit, c.Group.Swap.Limit, c.NanoCores = spec.Unlimited, spec.Unlimited, nil
	got := ContainerStats(*c)
	if got.Memory.AvailableBytes != nil || got.Swap.SwapAvailableBytes != nil || got.Cpu.UsageNanoCores != nil {
		t.Errorf("made up: %v", got)
	}
	c.Group.Memory.Limit, c.Group.Swap.Limit = 10, 0
	if got := ContainerStats(*c); got.Memory.AvailableBytes.Value != 0 || got.Swap.SwapAvailableBytes.Value != 0 {
		t.Errorf("below zero: %v", got)
	}
	c.Group.Memory, c.Group.Swap, c.Group.CPUStall, c.Disk = nil, nil, nil, nil
	if got := ContainerStats(*c); got.Memory != nil || got.Swap != nil || got.Cpu.Psi != nil || got.WritableLayer != nil {
		t.Errorf("made up: %v", got)
	}
	c.Group = nil
	if got := ContainerStats(*c); got.Cpu != nil || got.Io != nil {
		t.Errorf("made up: %v", got)
	}
	s.Group, s.Links = nil, nil
	if got := SandboxStats(s); got.Linux.Cpu != nil || got.Linux.Network != nil || got.Linux.Process != nil {
		t.Errorf("made up: %v", got)
	}
}

// Every metric is described, with as many values as keys; every description has a metric in a pod of which all is known.
func TestEveryMetricIsDescribed(t *testing.T) {
	keys, used := map[string]int{}, map[string]bool{}
	for _, d := range MetricDescriptors() {
		if _, twice := keys[d.Name]; twice || d.Help == "" || !strings.HasPrefix(d.Name, "container_") {
			t.Errorf("descriptor %v", d)
		}
		if !slices.Equal(d.LabelKeys[:5], []string{"pod", "namespace", "container", "id", "image"}) {
			t.Errorf("%s: keys %v", d.Name, d.LabelKeys)
		}
		keys[d.Name] = len(d.LabelKeys)
	}
	m := SandboxMetrics(fullStats())
	for _, v := range append(slices.Clone(m.Metrics), m.ContainerMetrics[0].Metrics...) {
		n, known := keys[v.Name]
		if !known || n != len(v.LabelValues) || v.Timestamp != 0 || v.Value == nil {
			t.Errorf("metric %v; %d keys", v, n)
		}
		if strings.HasSuffix(v.Name, "_total") != (v.MetricType == v1.MetricType_COUNTER) && v.Name != "container_memory_failcnt" &&
			!slices.Contains([]string{"container_fs_inodes_total"}, v.Name) {
			t.Errorf("%s is a %v", v.Name, v.MetricType)
		}
		used[v.Name] = true
	}
	for name := range keys {
		if !used[name] {
			t.Errorf("%s is described and never told", name)
		}
	}
	if !reflect.DeepEqual(slices.Sorted(maps.Keys(keys)), slices.Sorted(maps.Keys(used))) {
		t.Error("names differ")
	}
	for i, d := range MetricDescriptors() {
		if !proto.Equal(d, MetricDescriptors()[i]) {
			t.Errorf("%s changes", d.Name)
		}
	}
}

// What the kubelet's own tests of these metrics look for by name, and what the numbers mean.
func TestMetricsAreCAdvisors(t *testing.T) {
	m := SandboxMetrics(fullStats())
	got := map[string]uint64{}
	for _, v := range append(slices.Clone(m.Metrics), m.ContainerMetrics[0].Metrics...) {
		got[strings.Join(append([]string{v.Name}, v.LabelValues...), " ")] = v.Value.Value
	}
	for name, want := range map[string]uint64{
		"container_cpu_usage_seconds_total web ns main cid busybox:1":                    90,
		"container_cpu_user_seconds_total web ns main cid busybox:1":                     60,
		"container_cpu_cfs_throttled_seconds_total web ns main cid busybox:1":            4,
		"container_memory_working_set_bytes web ns main cid busybox:1":                   80,
		"container_memory_rss web ns main cid busybox:1":                                 60,
		"container_memory_failures_total web ns main cid busybox:1 pgmajfault hierarchy": 2,
		"container_oom_events_total web ns main cid busybox:1":                           1,
		"container_memory_swap web ns main cid busybox:1":                                6,
		"container_pressure_cpu_waiting_seconds_total web ns main cid busybox:1":         10,
		"container_pressure_io_stalled_seconds_total web ns main cid busybox:1":          15,
		"container_fs_usage_bytes web ns main cid busybox:1 /dev/sdb":                    4096,
		"container_fs_inodes_free web ns main cid busybox:1 /dev/sdb":                    900,
		"container_fs_writes_bytes_total web ns main cid busybox:1 /dev/sda":             2,
		"container_blkio_device_usage_total web ns main cid busybox:1 /dev/sda 8 0 Read": 1,
		"container_network_receive_bytes_total web ns POD sid  eth0":                     1,
		"container_network_transmit_packets_dropped_total web ns POD sid  eth0":          8,
		"container_network_receive_bytes_total web ns POD sid  net1":                     9,
		"container_processes web ns main cid busybox:1":                                  2,
		"container_threads web ns main cid busybox:1":                                    5,
		"container_threads_max web ns main cid busybox:1":                                32,
		"container_file_descriptors web ns main cid busybox:1":                           9,
		"container_sockets web ns main cid busybox:1":                                    4,
		"container_ulimits_soft web ns main cid busybox:1 max_open_files":                1024,
		"container_start_time_seconds web ns main cid busybox:1":                         77,
		"container_last_seen web ns main cid busybox:1":                                  1000,
		"container_spec_cpu_period web ns main cid busybox:1":                            50000,
		"container_spec_cpu_quota web ns main cid busybox:1":                             25000,
		"container_spec_cpu_shares web ns main cid busybox:1":                            512,
		"container_spec_memory_limit_bytes web ns main cid busybox:1":                    150,
		"container_spec_memory_swap_limit_bytes web ns main cid busybox:1":               200,
		"container_spec_memory_reservation_limit_bytes web ns main cid busybox:1":        0,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s: %d, %t, not %d", name, v, ok, want)
		}
	}
	s := fullStats()
	c := &s.Containers[0]
	c.Group.Tasks.Limit, c.Container.Spec.Request.Resources = spec.Unlimited, nil
	c.Group.Memory, c.Group.Swap, c.Group.CPUStall, c.Detail.FileSystem, c.Detail.Descriptors, c.Detail.SoftDescriptors = nil, nil, nil, nil, nil, nil
	for _, v := range SandboxMetrics(s).ContainerMetrics[0].Metrics {
		switch v.Name {
		case "container_threads_max", "container_spec_memory_limit_bytes", "container_spec_cpu_shares":
			if v.Value.Value != 0 {
				t.Errorf("no limit is %v", v)
			}
		case "container_memory_rss", "container_fs_usage_bytes", "container_file_descriptors", "container_ulimits_soft", "container_pressure_cpu_waiting_seconds_total":
			t.Errorf("made up: %v", v)
		}
	}
}

func TestStatsFilters(t *testing.T) {
	c, err := ContainerStatsFilter(&v1.ContainerStatsFilter{Id: "a", PodSandboxId: "b", LabelSelector: map[string]string{"k": "v"}})
	if err != nil || c.ID != "a" || c.SandboxID != "b" || c.Labels["k"] != "v" {
		t.Errorf("%+v, %v", c, err)
	}
	s, err := SandboxStatsFilter(&v1.PodSandboxStatsFilter{Id: "a", LabelSelector: map[string]string{"k": "v"}})
	if err != nil || s.ID != "a" || s.Labels["k"] != "v" {
		t.Errorf("%+v, %v", s, err)
	}
	if c, err := ContainerStatsFilter(nil); err != nil || c.ID != "" {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := SandboxStatsFilter(&v1.PodSandboxStatsFilter{Id: strings.Repeat("x", 1<<20)}); err == nil || !strings.HasPrefix(err.Error(), "filter.id") {
		t.Errorf("a long id: %v", err)
	}
}
