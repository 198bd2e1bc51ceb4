package translate

import (
	"time"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// containerMetrics are read for each running container.
var containerMetrics = []metric[stats]{
	{"container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds.", counter, baseKeys,
		one(func(s stats) uint64 { return seconds(s.Group.CPU.Total) })},
	{"container_cpu_user_seconds_total", "Cumulative user cpu time consumed in seconds.", counter, baseKeys,
		one(func(s stats) uint64 { return seconds(s.Group.CPU.User) })},
	{"container_cpu_system_seconds_total", "Cumulative system cpu time consumed in seconds.", counter, baseKeys,
		one(func(s stats) uint64 { return seconds(s.Group.CPU.System) })},
	{"container_cpu_cfs_periods_total", "Number of elapsed enforcement period intervals.", counter, baseKeys,
		one(func(s stats) uint64 { return s.Group.CPU.Periods })},
	{"container_cpu_cfs_throttled_periods_total", "Number of throttled period intervals.", counter, baseKeys,
		one(func(s stats) uint64 { return s.Group.CPU.Throttled })},
	{"container_cpu_cfs_throttled_seconds_total", "Total time duration the container has been throttled.", counter, baseKeys,
		one(func(s stats) uint64 { return seconds(s.Group.CPU.ThrottledFor) })},

	{"container_memory_usage_bytes", "Current memory usage in bytes, including all memory regardless of when it was accessed.", gauge, baseKeys,
		ofMemory(func(m *spec.MemoryUse) uint64 { return m.Usage })},
	{"container_memory_working_set_bytes", "Current working set in bytes.", gauge, baseKeys,
		ofMemory(func(m *spec.MemoryUse) uint64 { return m.WorkingSet() })},
	{"container_memory_max_usage_bytes", "Maximum memory usage recorded in bytes.", gauge, baseKeys,
		ofMemory(func(m *spec.MemoryUse) uint64 { return m.MaxUsage })},
	{"container_memory_rss", "Size of anonymous and swap cache memory in bytes.", gauge, baseKeys,
		ofMemory(func(m *spec.MemoryUse) uint64 { return m.RSS })},
	{"container_memory_cache", "Number of bytes of page cache memory.", gauge, baseKeys,
		ofMemory(func(m *spec.MemoryUse) uint64 { return m.Cache })},
	{"container_memory_mapped_file", "Size of memory mapped files in bytes.", gauge, baseKeys,
		ofMemory(func(m *spec.MemoryUse) uint64 { return m.Mapped })},
	{"container_memory_kernel_usage", "Size of kernel memory in bytes: stacks and slab on cgroup v2, all that is counted on v1.", gauge, baseKeys,
		ofMemory(func(m *spec.MemoryUse) uint64 { return m.Kernel })},
	{"container_memory_total_active_file_bytes", "Bytes of page cache on the active list.", gauge, baseKeys,
		ofMemory(func(m *spec.MemoryUse) uint64 { return m.ActiveFile })},
	{"container_memory_total_inactive_file_bytes", "Bytes of page cache on the inactive list.", gauge, baseKeys,
		ofMemory(func(m *spec.MemoryUse) uint64 { return m.InactiveFile })},
	{"container_memory_failcnt", "Number of memory usage hits limits.", counter, baseKeys,
		ofMemory(func(m *spec.MemoryUse) uint64 { return m.Failures })},
	{"container_memory_failures_total", "Cumulative count of page faults.", counter, failureKeys, faults},
	{"container_oom_events_total", "Count of processes that were killed for want of memory.", counter, baseKeys,
		ofMemory(func(m *spec.MemoryUse) uint64 { return m.OOMKills })},
	{"container_memory_swap", "Container swap usage in bytes.", gauge, baseKeys, one(func(s stats) uint64 {
		if s.Group.Swap == nil {
			return 0
		}
		return s.Group.Swap.Usage
	})},

	{"container_pressure_cpu_waiting_seconds_total", "Total time duration tasks in the container have waited due to CPU congestion.", counter, baseKeys,
		ofStalls(cpuStalls, some)},
	{"container_pressure_cpu_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to CPU congestion.", counter, baseKeys,
		ofStalls(cpuStalls, full)},
	{"container_pressure_memory_waiting_seconds_total", "Total time duration tasks in the container have waited due to memory congestion.", counter, baseKeys,
		ofStalls(memoryStalls, some)},
	{"container_pressure_memory_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to memory congestion.", counter, baseKeys,
		ofStalls(memoryStalls, full)},
	{"container_pressure_io_waiting_seconds_total", "Total time duration tasks in the container have waited due to IO congestion.", counter, baseKeys,
		ofStalls(ioStalls, some)},
	{"container_pressure_io_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to IO congestion.", counter, baseKeys,
		ofStalls(ioStalls, full)},

	{"container_fs_usage_bytes", "Number of bytes that are consumed by the container's writable layer.", gauge, deviceKeys, func(s stats) []sample {
		if s.Disk == nil || s.Detail.FileSystem == nil {
			return nil
		}
		return []sample{{s.Disk.Bytes, []string{s.Detail.FileSystem.Device}}}
	}},
	{"container_fs_limit_bytes", "Size in bytes of the file system of the container's writable layer.", gauge, deviceKeys,
		ofFileSystem(func(f *spec.FileSystem) uint64 { return f.Bytes })},
	{"container_fs_inodes_total", "Number of inodes of that file system.", gauge, deviceKeys,
		ofFileSystem(func(f *spec.FileSystem) uint64 { return f.Inodes })},
	{"container_fs_inodes_free", "Number of free inodes of that file system.", gauge, deviceKeys,
		ofFileSystem(func(f *spec.FileSystem) uint64 { return f.FreeInodes })},
	{"container_fs_reads_bytes_total", "Cumulative count of bytes read.", counter, deviceKeys,
		ofDevices(func(d spec.DeviceUse) uint64 { return d.ReadBytes })},
	{"container_fs_reads_total", "Cumulative count of reads completed.", counter, deviceKeys,
		ofDevices(func(d spec.DeviceUse) uint64 { return d.ReadCount })},
	{"container_fs_writes_bytes_total", "Cumulative count of bytes written.", counter, deviceKeys,
		ofDevices(func(d spec.DeviceUse) uint64 { return d.WriteBytes })},
	{"container_fs_writes_total", "Cumulative count of writes completed.", counter, deviceKeys,
		ofDevices(func(d spec.DeviceUse) uint64 { return d.WriteCount })},
	{"container_blkio_device_usage_total", "Blkio device bytes usage.", counter, blockKeys, blockOperations},

	{"container_processes", "Number of processes running inside the container.", gauge, baseKeys,
		one(func(s stats) uint64 { return s.Detail.Processes })},
	{"container_threads", "Number of threads running inside the container.", gauge, baseKeys,
		ofTasks(func(t *spec.TasksUse) uint64 { return t.Current })},
	{"container_threads_max", "Maximum number of threads allowed inside the container, infinity if value is zero.", gauge, baseKeys,
		ofTasks(func(t *spec.TasksUse) uint64 { return noLimit(t.Limit) })},
	{"container_file_descriptors", "Number of open file descriptors for the container.", gauge, baseKeys,
		maybe(func(s stats) *uint64 { return s.Detail.Descriptors })},
	{"container_sockets", "Number of open sockets for the container.", gauge, baseKeys,
		maybe(func(s stats) *uint64 { return s.Detail.Sockets })},
	{"container_ulimits_soft", "Soft ulimit values for the container root process.", gauge, limitKeys, func(s stats) []sample {
		if s.Detail.SoftDescriptors == nil {
			return nil
		}
		return []sample{{*s.Detail.SoftDescriptors, []string{"max_open_files"}}}
	}},

	{"container_last_seen", "Last time a container was seen by the exporter.", gauge, baseKeys,
		one(func(s stats) uint64 { return uint64(s.Group.At.Unix()) })},
	{"container_start_time_seconds", "Start time of the container since unix epoch in seconds.", gauge, baseKeys, one(func(s stats) uint64 {
		if s.Container.Facts.Started == nil {
			return 0
		}
		return uint64(s.Container.Facts.Started.StartedAt / int64(time.Second))
	})},

	{"container_spec_cpu_period", "CPU period of the container.", gauge, baseKeys, one(func(s stats) uint64 {
		if r := s.Container.Spec.Request.Resources; r != nil && r.CPUPeriod > 0 {
			return uint64(r.CPUPeriod)
		}
		return 100000 // the kernel's
	})},
	{"container_spec_cpu_quota", "CPU quota of the container.", gauge, baseKeys, maybe(func(s stats) *uint64 {
		if r := s.Container.Spec.Request.Resources; r != nil && r.CPUQuota > 0 {
			v := uint64(r.CPUQuota)
			return &v
		}
		return nil
	})},
	{"container_spec_cpu_shares", "CPU share of the container.", gauge, baseKeys,
		requested(func(r *spec.Resources) int64 { return int64(r.CPUShares) })},
	{"container_spec_memory_limit_bytes", "Memory limit for the container.", gauge, baseKeys,
		requested(func(r *spec.Resources) int64 { return r.MemoryLimit })},
	{"container_spec_memory_reservation_limit_bytes", "Memory reservation limit for the container: the CRI has none, so it is 0.", gauge, baseKeys,
		one(func(stats) uint64 { return 0 })},
	{"container_spec_memory_swap_limit_bytes", "Memory and swap limit for the container.", gauge, baseKeys,
		requested(func(r *spec.Resources) int64 { return r.MemorySwap })},
}

// linkMetrics are read for each link of a pod with a network of its own.
var linkMetrics = []metric[spec.LinkUse]{
	{"container_network_receive_bytes_total", "Cumulative count of bytes received.", counter, linkKeys,
		ofLink(func(l spec.LinkUse) uint64 { return l.RxBytes })},
	{"container_network_receive_packets_total", "Cumulative count of packets received.", counter, linkKeys,
		ofLink(func(l spec.LinkUse) uint64 { return l.RxPackets })},
	{"container_network_receive_packets_dropped_total", "Cumulative count of packets dropped while receiving.", counter, linkKeys,
		ofLink(func(l spec.LinkUse) uint64 { return l.RxDropped })},
	{"container_network_receive_errors_total", "Cumulative count of errors encountered while receiving.", counter, linkKeys,
		ofLink(func(l spec.LinkUse) uint64 { return l.RxErrors })},
	{"container_network_transmit_bytes_total", "Cumulative count of bytes transmitted.", counter, linkKeys,
		ofLink(func(l spec.LinkUse) uint64 { return l.TxBytes })},
	{"container_network_transmit_packets_total", "Cumulative count of packets transmitted.", counter, linkKeys,
		ofLink(func(l spec.LinkUse) uint64 { return l.TxPackets })},
	{"container_network_transmit_packets_dropped_total", "Cumulative count of packets dropped while transmitting.", counter, linkKeys,
		ofLink(func(l spec.LinkUse) uint64 { return l.TxDropped })},
	{"container_network_transmit_errors_total", "Cumulative count of errors encountered while transmitting.", counter, linkKeys,
		ofLink(func(l spec.LinkUse) uint64 { return l.TxErrors })},
}

func ofLink(value func(spec.LinkUse) uint64) func(spec.LinkUse) []sample {
	return func(l spec.LinkUse) []sample { return []sample{{value(l), []string{l.Name}}} }
}

func cpuStalls(g *spec.GroupUse) *spec.Stalls    { return g.CPUStall }
func memoryStalls(g *spec.GroupUse) *spec.Stalls { return g.MemoryStall }
func ioStalls(g *spec.GroupUse) *spec.Stalls     { return g.IOStall }

func some(s *spec.Stalls) time.Duration { return s.Some.Total }
func full(s *spec.Stalls) time.Duration { return s.Full.Total }
