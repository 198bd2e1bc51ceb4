package spec

import "fmt"

// RecordVersion is the version that every record of this release carries.
const RecordVersion = 1

// Process identifies a process beyond the reuse of its pid: start ticks since boot (proc(5), stat field 22) and the
// boot id (/proc/sys/kernel/random/boot_id).
type Process struct {
	PID        int
	StartTicks uint64
	BootID     string
}

// Sandbox is spec.json of a sandbox: written once, before any kernel object is made.
type Sandbox struct {
	Version   int
	ID        string // 64 hex
	CreatedAt int64  // ns
	BootID    string
	Request   SandboxRequest
	Profile   SandboxProfile
	// CgroupPath is the pod's group, below each hierarchy's mount point.
	CgroupPath string
}

// SandboxStatus is status.json of a sandbox: replaced by rename.
type SandboxStatus struct {
	Version int
	// ReadyAt and StoppedAt are ns; 0 is "not yet".
	ReadyAt   int64
	StoppedAt int64
	// Init is the pod's init, where its PID namespace is shared.
	Init *Process
	// RemoveOnExit: the sandbox is removed when its last container has exited (runtimed run --rm).
	RemoveOnExit bool
	// Overhead and Resources are what UpdatePodSandboxResources said last; nil is "as created".
	Overhead  *Resources
	Resources *Resources
}

// SandboxState is the CRI's word, derived from facts.
type SandboxState string

const (
	SandboxReady    SandboxState = "ready"
	SandboxNotReady SandboxState = "notready"
)

// State derives the sandbox's state. A sandbox of another boot is never ready.
func (s SandboxStatus) State(recordBoot, thisBoot string) SandboxState {
	if s.ReadyAt != 0 && s.StoppedAt == 0 && recordBoot == thisBoot {
		return SandboxReady
	}
	return SandboxNotReady
}

// Address is one address of a pod.
type Address struct {
	IP      string // without prefix length
	Prefix  int
	Gateway string
}

// NetworkResult is network.json: written once, by the network step. It is what teardown needs.
type NetworkResult struct {
	Version   int
	HostVeth  string
	Addresses []Address // first is the primary
	Ports     []PortMapping
}

// Container is spec.json of a container: written once, at CreateContainer.
type Container struct {
	Version   int
	ID        string
	SandboxID string
	CreatedAt int64 // ns
	BootID    string
	Request   ContainerRequest
	Image     ImageUse
	// MountImages are the images of Request.Mounts, by index there.
	MountImages map[int]ImageUse
	// PIDTarget is the id of the container whose PID namespace it shares (mode TARGET), or "".
	PIDTarget string
	Profile   Profile
	// LogPath is absolute, or "" for no log.
	LogPath string
	// StopSignal is resolved (request, image, SIGTERM), in the form "SIGTERM" or "SIGRTMIN+3".
	StopSignal string
	// CgroupPath is below the pod's group.
	CgroupPath string
}

// ContainerStatus is status.json of a container: what the daemon alone knows, replaced by rename. Started and Exit are
// the shim's facts, each in a file of its own.
type ContainerStatus struct {
	Version int
	// StartingAt is written before the creator is run; 0 means that nothing of the container ever ran.
	StartingAt int64 // ns
	// Shim is the creator, then the monitor (same process).
	Shim *Process
	// Lost is the daemon's own verdict where the shim left no exit.json (shim killed, start failed, reboot).
	Lost *Exit
	// Resources are the limits after the last update, in the request's words; nil is "as created".
	Resources *Resources
	// Updating is a change of limits that is under way, and to be taken back by whoever finds it.
	Updating *LimitChange
}

// Started is started.json: written once by the shim, just before the program is let go.
type Started struct {
	Version   int
	StartedAt int64 // ns
	Init      Process
}

// Exit is exit.json: written once by the shim after it reaped the container's init.
type Exit struct {
	Version    int
	FinishedAt int64 // ns
	// Code is 0…255; 128+n for signal n.
	Code int
	// OOMKilled: the kernel's oom_kill counter of the container's cgroup grew while it ran.
	OOMKilled bool
	// Reason is "" (derive Completed, Error or OOMKilled) or the daemon's own: StartError, ShimLost, NodeRebooted.
	Reason  string
	Message string
	// LogLost counts bytes of output that could not be written to the log file.
	LogLost uint64
}

// ContainerState is the CRI's word, derived from facts.
type ContainerState string

const (
	ContainerCreated ContainerState = "created"
	ContainerRunning ContainerState = "running"
	ContainerExited  ContainerState = "exited"
	ContainerUnknown ContainerState = "unknown"
)

// Facts are all that is known of a container beside its spec.
type Facts struct {
	Status  ContainerStatus
	Started *Started
	Exit    *Exit
}

// Ended returns the fact that ended the container: the shim's own before the daemon's verdict.
func (f Facts) Ended() *Exit {
	if f.Exit != nil {
		return f.Exit
	}
	return f.Status.Lost
}

// State derives the container's state.
func (f Facts) State() ContainerState {
	switch {
	case f.Ended() != nil:
		return ContainerExited
	case f.Started != nil:
		return ContainerRunning
	default:
		return ContainerCreated
	}
}

// Why returns the CRI reason of an ended container: OOMKilled, Completed, Error or the daemon's own word.
func (e Exit) Why() string {
	switch {
	case e.Reason != "":
		return e.Reason
	case e.OOMKilled:
		return "OOMKilled"
	case e.Code == 0:
		return "Completed"
	default:
		return "Error"
	}
}

// Key is the idempotency key of a sandbox.
func (m Metadata) Key() string {
	return fmt.Sprintf("%q/%q/%q/%d", m.Namespace, m.Name, m.UID, m.Attempt)
}
