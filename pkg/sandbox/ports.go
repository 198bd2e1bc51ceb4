package sandbox

import (
	"context"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// The ports below are all that Runtime needs of the world. Every method that makes something has a counterpart that
// removes it, finds it from the id alone, may run any number of times and treats "not there" as done.

// Namespaces makes, pins and unpins the namespaces of a pod.
type Namespaces interface {
	// Create makes the namespaces that the request names, sets the hostname and sysctls in them, brings loopback up and
	// pins them at the layout's paths. No process stays.
	Create(ctx context.Context, r NamespaceRequest) error
	// Remove unpins. The namespaces end with their last process.
	Remove(ctx context.Context, sandboxID string) error
	// StartInit starts the pod's own init in a new PID namespace, inside the pod's other namespaces and in the cgroup
	// that is given. It is killed with that cgroup.
	StartInit(ctx context.Context, r InitRequest) (spec.Process, error)
	// CanIDMap tells whether a bind mount of hostPath can be idmapped into the pod's user namespace; the error names
	// path, file system and reason.
	CanIDMap(sandboxID, hostPath string) error
}

// NamespaceRequest, InitRequest and FilesRequest live in spec, so that a room which serves them needs nothing else of
// ours.
type (
	NamespaceRequest = spec.NamespaceRequest
	InitRequest      = spec.InitRequest
	FilesRequest     = spec.FilesRequest
)

// Network connects a pod's pinned network namespace.
type Network interface {
	Add(ctx context.Context, r NetworkRequest) (spec.NetworkResult, error)
	// Remove takes all of the sandbox's network down, with or without its result and its namespace.
	Remove(ctx context.Context, sandboxID string, last *spec.NetworkResult) error
	// Recover is called once before the first Add: live are the results of the recorded sandboxes, by id. Addresses,
	// rules and links of others that are this daemon's are removed.
	Recover(ctx context.Context, live map[string]spec.NetworkResult) error
	// UsePodCIDRs tells the subnets that the cluster gave this node; a network that has its own may leave them unused.
	UsePodCIDRs(ctx context.Context, cidrs []netip.Prefix) error
	// Condition never waits.
	Condition() spec.Condition
}

// NetworkRequest is for one pod with a network namespace of its own. It lives in spec, so that a network needs to know
// nothing else of ours.
type NetworkRequest = spec.NetworkRequest

// Cgroups makes and removes groups, in every hierarchy that the node has.
type Cgroups interface {
	// Create makes the pod's group with its limits, and its parents without.
	Create(ctx context.Context, path string, r *spec.Resources) error
	// Kill kills every process in the tree and returns when it is empty. A tree that is not there is empty.
	Kill(ctx context.Context, path string) error
	// Remove kills, then removes the tree, leaves first.
	Remove(ctx context.Context, path string) error
	// Find returns the paths of all groups with that base name, in any hierarchy: for a record that cannot be read.
	Find(ctx context.Context, name string) ([]string, error)
}

// Files makes a pod's resolv.conf, hosts, hostname and /dev/shm.
type Files interface {
	Create(ctx context.Context, r FilesRequest) error
	Remove(ctx context.Context, sandboxID string) error
}

// Shims starts and speaks with the per-container supervisors.
type Shims interface {
	// Start runs the creator for the record directory's config.json and launch.json. When it returns nil the log file
	// exists, started.json is written and the program has been let go. onCreated is called with the creator's process
	// before the creator does anything. A failure of the creator is a *StartError; nothing of the container runs then.
	// When ctx ends first, the creator is killed.
	Start(ctx context.Context, l spec.Launch, onCreated func(spec.Process) error) error
	// Alive names the process that holds the container's shim lock.
	Alive(l spec.Layout, sandboxID, containerID string) (pid int, alive bool)
	// Ready tells whether the monitor answers on its socket.
	Ready(ctx context.Context, l spec.Layout, containerID string) error
	// ReopenLog makes the monitor write to a new file at the log's path.
	ReopenLog(ctx context.Context, l spec.Layout, containerID string) error
}

// Sessions are what callers have with running containers.
type Sessions interface {
	// Exec runs a command in the container, in a stage process of its own, and kills its whole tree when the timeout or
	// ctx ends.
	Exec(ctx context.Context, l spec.Launch, profile ExecProfile, r spec.ExecRequest) (spec.ExecResult, error)
	// Stream is Exec with the caller's streams, until the command ends or ctx does.
	Stream(ctx context.Context, l spec.Launch, r spec.StreamRequest) (exitCode int32, err error)
	// Attach carries a running container's output and input until it ends or ctx does. The session's end is that of a
	// caller, unless left is closed.
	Attach(ctx context.Context, l spec.Launch, s spec.Streams, left <-chan struct{}) error
	// EndSessions kills what a former daemon's exec sessions left in the container.
	EndSessions(ctx context.Context, l spec.Launch) error
}

// Dialer connects to a TCP port on the loopback of a network namespace, by its path; "" is the node's.
type Dialer interface {
	Dial(ctx context.Context, netns string, port uint16) (net.Conn, error)
}

// ExecProfile and StartError live in spec, so that a launcher needs nothing else of ours.
type (
	ExecProfile = spec.ExecProfile
	StartError  = spec.StartError
)

// Images is what a container's record needs of the image store.
type Images interface {
	// Use finds a local image by id, id prefix, digest or tag and protects it from removal until release is called.
	Use(ctx context.Context, ref string) (use spec.ImageUse, release func(), err error)
	// Open opens a regular file of the unpacked image, resolved as a process with that image as its root would see it:
	// no symbolic link leaves it. The error matches fs.ErrNotExist where there is none.
	Open(layers []string, path string) (io.ReadCloser, error)
	// Find tells whether a path of the unpacked image, resolved as Open does, is a directory, or else a regular file. The
	// error matches fs.ErrNotExist where it is neither.
	Find(layers []string, path string) (dir bool, err error)
	// Collect removes what no image and no container record holds any more, in the background.
	Collect()
}

// Stats reads what runs. It never waits for a shim.
type Stats interface {
	// Group reads the group of the object with that id, with the processor time per second since an earlier reading, or
	// since born. A group that is not there is errdefs.ErrNotFound.
	Group(id, path string, born time.Time, detail bool) (use spec.GroupUse, nanoCores *uint64, err error)
	// Disk is the writable layer's size as it was measured last, or nil. It walks nothing large.
	Disk(id, dir string) *spec.DiskUse
	// Links reads the links of the network namespace that is pinned at path.
	Links(path string) ([]spec.LinkUse, error)
	// Processes counts those of a group and of all below it.
	Processes(path string) (uint64, error)
	// Detail finds what only metrics tell of a container with that group, first process and writable layer.
	Detail(path string, init int, dir string) (*spec.ContainerDetail, error)
}

// Clock is the time source; tests replace it.
type Clock func() time.Time
