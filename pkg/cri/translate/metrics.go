package translate

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// The labels of metrics, as cAdvisor and the other runtimes name them.
var (
	baseKeys    = []string{"pod", "namespace", "container", "id", "image"}
	linkKeys    = append(slices.Clone(baseKeys), "interface")
	deviceKeys  = append(slices.Clone(baseKeys), "device")
	failureKeys = append(slices.Clone(baseKeys), "failure_type", "scope")
	blockKeys   = append(slices.Clone(deviceKeys), "major", "minor", "operation")
	limitKeys   = append(slices.Clone(baseKeys), "ulimit")
)

const (
	counter = v1.MetricType_COUNTER
	gauge   = v1.MetricType_GAUGE
)

// sample is one value of a metric, with the values of the labels that it has beyond the first five.
type sample struct {
	value  uint64
	labels []string
}

// metric is a row of the tables below: a name, and where its values come from.
type metric[From any] struct {
	name, help string
	kind       v1.MetricType
	keys       []string
	samples    func(From) []sample
}

// one is a metric that has a value always.
func one[From any](value func(From) uint64) func(From) []sample {
	return func(f From) []sample { return []sample{{value: value(f)}} }
}

// maybe is a metric that is left out where there is no value.
func maybe[From any](value func(From) *uint64) func(From) []sample {
	return func(f From) []sample {
		if v := value(f); v != nil {
			return []sample{{value: *v}}
		}
		return nil
	}
}

type stats = *spec.ContainerStats

func seconds(d time.Duration) uint64 { return uint64(d / time.Second) }

// ofMemory is a value of what the memory controller counts.
func ofMemory(value func(*spec.MemoryUse) uint64) func(stats) []sample {
	return maybe(func(s stats) *uint64 {
		if s.Group.Memory == nil {
			return nil
		}
		v := value(s.Group.Memory)
		return &v
	})
}

// ofTasks is a value of what the pids controller counts.
func ofTasks(value func(*spec.TasksUse) uint64) func(stats) []sample {
	return maybe(func(s stats) *uint64 {
		if s.Group.Tasks == nil {
			return nil
		}
		v := value(s.Group.Tasks)
		return &v
	})
}

// ofDevices has a value for each block device.
func ofDevices(value func(spec.DeviceUse) uint64) func(stats) []sample {
	return func(s stats) (out []sample) {
		for _, d := range s.Group.Devices {
			out = append(out, sample{value(d), []string{d.Device}})
		}
		return out
	}
}

// ofFileSystem is a value of the file system of the writable layer.
func ofFileSystem(value func(*spec.FileSystem) uint64) func(stats) []sample {
	return func(s stats) []sample {
		f := s.Detail.FileSystem
		if f == nil {
			return nil
		}
		return []sample{{value(f), []string{f.Device}}}
	}
}

func ofStalls(stalls func(*spec.GroupUse) *spec.Stalls, value func(*spec.Stalls) time.Duration) func(stats) []sample {
	return maybe(func(s stats) *uint64 {
		p := stalls(s.Group)
		if p == nil {
			return nil
		}
		v := seconds(value(p))
		return &v
	})
}

// requested is a value of the resources that the container has, 0 for none.
func requested(value func(*spec.Resources) int64) func(stats) []sample {
	return one(func(s stats) uint64 {
		r := s.Container.Spec.Request.Resources
		if r == nil {
			return 0
		}
		return uint64(max(value(r), 0))
	})
}

// noLimit makes "unlimited" the 0 that cAdvisor uses for it.
func noLimit(n uint64) uint64 {
	if n == spec.Unlimited {
		return 0
	}
	return n
}

// MetricDescriptors describes every metric that SandboxMetrics may hold. It is the same for as long as the process lives.
func MetricDescriptors() []*v1.MetricDescriptor {
	var out []*v1.MetricDescriptor
	for _, m := range containerMetrics {
		out = append(out, &v1.MetricDescriptor{Name: m.name, Help: m.help, LabelKeys: m.keys})
	}
	for _, m := range linkMetrics {
		out = append(out, &v1.MetricDescriptor{Name: m.name, Help: m.help, LabelKeys: m.keys})
	}
	return out
}

// SandboxMetrics translates a sandbox and its running containers. Times are whole seconds, because values are whole
// numbers. Links are the pod's, under the name that the kubelet gives a pod's own container.
func SandboxMetrics(s spec.SandboxStats) *v1.PodSandboxMetrics {
	m := s.Sandbox.Spec.Request.Metadata
	out := &v1.PodSandboxMetrics{PodSandboxId: s.Sandbox.Spec.ID}
	labels := []string{m.Name, m.Namespace, "POD", s.Sandbox.Spec.ID, ""}
	for _, l := range s.Links {
		out.Metrics = appendMetrics(out.Metrics, linkMetrics, l, labels)
	}
	for i := range s.Containers {
		c := &s.Containers[i]
		if c.Group == nil || c.Detail == nil {
			continue
		}
		r := c.Container.Spec
		labels := []string{m.Name, m.Namespace, r.Request.Name, r.ID, cmp.Or(r.Request.UserImage, r.Image.UserImage, r.Request.Image)}
		out.ContainerMetrics = append(out.ContainerMetrics, &v1.ContainerMetrics{
			ContainerId: r.ID, Metrics: appendMetrics(nil, containerMetrics, c, labels),
		})
	}
	return out
}

// appendMetrics reads each row. The time of a value is 0: it was read for this answer.
func appendMetrics[From any](out []*v1.Metric, rows []metric[From], from From, labels []string) []*v1.Metric {
	for _, m := range rows {
		for _, s := range m.samples(from) {
			out = append(out, &v1.Metric{
				Name: m.name, MetricType: m.kind, LabelValues: slices.Concat(labels, s.labels), Value: number(s.value),
			})
		}
	}
	return out
}

func blockOperations(s stats) (out []sample) {
	for _, d := range s.Group.Devices {
		major, minor := strconv.FormatUint(d.Major, 10), strconv.FormatUint(d.Minor, 10)
		out = append(out,
			sample{d.ReadBytes, []string{d.Device, major, minor, "Read"}},
			sample{d.WriteBytes, []string{d.Device, major, minor, "Write"}})
	}
	return out
}

func faults(s stats) []sample {
	m := s.Group.Memory
	if m == nil {
		return nil
	}
	return []sample{{m.PageFaults, []string{"pgfault", "hierarchy"}}, {m.MajorFaults, []string{"pgmajfault", "hierarchy"}}}
}
