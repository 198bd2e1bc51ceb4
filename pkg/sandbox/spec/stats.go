package spec

import "time"

// Unlimited is a limit that is none.
const Unlimited = ^uint64(0)

// GroupUse is what a control group and all groups below it use, read once. What the kernel does not count is nil.
type GroupUse struct {
	At     time.Time // one moment for everything here, taken just before the processor time was read
	CPU    CPUUse
	Memory *MemoryUse
	Swap   *SwapUse
	Tasks  *TasksUse
	// Stalls are the kernel's pressure stall information (PSI).
	CPUStall, MemoryStall, IOStall *Stalls
	// Devices is filled only with detail, as are Tasks, all of CPU but the total, and Memory's Kernel, MaxUsage, Failures
	// and OOMKills.
	Devices []DeviceUse
}

// CPUUse is cumulative since the group was made.
type CPUUse struct {
	Total, User, System time.Duration
	// Periods, Throttled and ThrottledFor count the enforcement of a quota.
	Periods, Throttled uint64
	ThrottledFor       time.Duration
}

// MemoryUse is in bytes, but for what counts.
type MemoryUse struct {
	Usage, Limit, MaxUsage     uint64 // Limit is Unlimited for none
	RSS, Cache, Mapped, Kernel uint64
	ActiveFile, InactiveFile   uint64
	PageFaults, MajorFaults    uint64 // cumulative
	Failures                   uint64 // cumulative: how often the limit was hit
	OOMKills                   uint64 // cumulative
}

// WorkingSet is the usage without the page cache that the kernel would give up first, as the kubelet's eviction counts.
func (m MemoryUse) WorkingSet() uint64 {
	if m.InactiveFile > m.Usage {
		return 0
	}
	return m.Usage - m.InactiveFile
}

// SwapUse is in bytes. Limit is Unlimited for none.
type SwapUse struct{ Usage, Limit uint64 }

// TasksUse counts threads. Limit is Unlimited for none.
type TasksUse struct{ Current, Limit uint64 }

// Stalls are how long tasks waited for a resource: some of them, and all of them at once.
type Stalls struct{ Some, Full Stall }

// Stall is the cumulative time of waiting, and its average in percent over 10, 60 and 300 seconds.
type Stall struct {
	Total                time.Duration
	Avg10, Avg60, Avg300 float64
}

// DeviceUse is the input and output of a group on one block device, cumulative.
type DeviceUse struct {
	Device                                       string // such as /dev/vda
	Major, Minor                                 uint64
	ReadBytes, WriteBytes, ReadCount, WriteCount uint64
}

// DiskUse is what a directory's tree takes, as du(1) counts, at a moment.
type DiskUse struct {
	At     time.Time
	Bytes  uint64
	Inodes uint64
}

// LinkUse is the traffic of a network interface, cumulative.
type LinkUse struct {
	Name                                    string
	RxBytes, RxPackets, RxErrors, RxDropped uint64
	TxBytes, TxPackets, TxErrors, TxDropped uint64
}

// FileSystem is the size of one, and what of it is free.
type FileSystem struct {
	Device             string // such as /dev/vda1
	Bytes              uint64
	Inodes, FreeInodes uint64
}

// ContainerStats is a container with what it uses. Group is nil when it does not run, Disk until it was measured.
type ContainerStats struct {
	Container ContainerView
	Group     *GroupUse
	// NanoCores is the processor time per second since an earlier reading, in ns; nil when there is none.
	NanoCores *uint64
	// FsMount names the file system of the writable layer, as ImageFsInfo does.
	FsMount string
	Disk    *DiskUse
	// Detail is filled only for metrics.
	Detail *ContainerDetail
}

// ContainerDetail is what only metrics tell.
type ContainerDetail struct {
	Processes       uint64
	Descriptors     *uint64 // nil: not all of them could be counted
	Sockets         *uint64
	SoftDescriptors *uint64 // soft limit of the first process; nil: unlimited, or it is gone
	FileSystem      *FileSystem
}

// SandboxStats is a sandbox with what it uses, its running containers' included. Links do not hold the loopback; they are
// nil for a pod on the node's network.
type SandboxStats struct {
	Sandbox   SandboxView
	Group     *GroupUse
	NanoCores *uint64
	Processes *uint64
	LinksAt   time.Time
	Links     []LinkUse
	// Containers are those that run.
	Containers []ContainerStats
}
