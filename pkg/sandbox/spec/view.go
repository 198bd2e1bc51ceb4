package spec

import "time"

// SandboxView is a consistent picture of a sandbox, taken at Timestamp. Its maps and slices are shared: read only.
type SandboxView struct {
	Spec       Sandbox
	Status     SandboxStatus
	State      SandboxState
	Network    NetworkResult
	Containers []ContainerView
	Timestamp  time.Time // taken before the facts were read
	// Pins are the paths that hold the pod's own namespaces, by their type in the OCI runtime spec; nil in lists and
	// events, and without one that is up.
	Pins map[string]string
}

// ContainerView is a consistent picture of a container.
type ContainerView struct {
	Spec  Container
	Facts Facts
	State ContainerState
	// Resources are its limits, as updated last; nil where none was ever asked for. Of a single running container, not of lists, they
	// are what the kernel has.
	Resources *Resources
}

// SandboxFilter selects sandboxes; all that is set must match. ID may be a unique prefix.
type SandboxFilter struct {
	ID     string
	State  SandboxState
	Labels map[string]string
}

// ContainerFilter selects containers; all that is set must match. IDs may be unique prefixes.
type ContainerFilter struct {
	ID        string
	SandboxID string
	State     ContainerState
	Labels    map[string]string
}

// ExecRequest runs a command in a running container and collects its output.
type ExecRequest struct {
	ContainerID string
	Command     []string
	Timeout     time.Duration // 0 is none
}

// ExecProfile is what an exec session takes over from its container beyond config.json. It is empty today: the stage
// reads the container's own config.json.
type ExecProfile struct{}

// ExecResult is the outcome of an ExecRequest. Each stream holds at most 16 MiB; what came after is dropped.
type ExecResult struct {
	Stdout   []byte
	Stderr   []byte
	ExitCode int32
}

// Condition is one line of the runtime's status.
type Condition struct {
	OK      bool
	Reason  string
	Message string
}

// RuntimeStatus answers the CRI's Status. It is made from what is in memory and waits for nothing.
type RuntimeStatus struct {
	Runtime Condition
	Network Condition
	// Handlers by name; "" is the default.
	Handlers []Handler
	Features Features
	// Info are JSON documents for a person, by name; filled only when asked.
	Info map[string]string
}

// Features are what every handler of this node can do.
type Features struct {
	// MountOptions: noexec, nodev and nosuid of mounts.
	MountOptions bool
	// UserNamespacesHostNetwork: a pod on the node's network may have a user namespace.
	UserNamespacesHostNetwork bool
}

// Handler is a runtime handler and what it can do on this node.
type Handler struct {
	Name                    string
	UserNamespaces          bool
	RecursiveReadonlyMounts bool
}
