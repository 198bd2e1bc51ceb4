package spec

// NamespaceMode says whose namespace a process joins. The values are those of the CRI's NamespaceMode.
type NamespaceMode string

const (
	NamespacePod       NamespaceMode = "pod"
	NamespaceContainer NamespaceMode = "container"
	NamespaceNode      NamespaceMode = "node"
	NamespaceTarget    NamespaceMode = "target"
	// NamespaceUnset appears only as a user-namespace mode: the request did not say (CRI: nil UserNamespace).
	NamespaceUnset NamespaceMode = ""
)

// IDMapping is one line of a uid_map or gid_map (user_namespaces(7)).
type IDMapping struct {
	ContainerID uint32
	HostID      uint32
	Size        uint32
}

// UserNamespace is the request's wish. UIDs and GIDs are given only with NamespacePod, and then by the caller (the
// kubelet): the node's own pool is used where they are empty.
type UserNamespace struct {
	Mode NamespaceMode
	UIDs []IDMapping
	GIDs []IDMapping
}

// Namespaces are the namespace wishes of a sandbox or a container.
type Namespaces struct {
	Network NamespaceMode
	PID     NamespaceMode
	IPC     NamespaceMode
	// Target is the container id for PID mode NamespaceTarget.
	Target string
	User   UserNamespace
}

// ProfileType selects a seccomp or AppArmor profile.
type ProfileType string

const (
	ProfileRuntimeDefault ProfileType = "runtime/default"
	ProfileUnconfined     ProfileType = "unconfined"
	ProfileLocalhost      ProfileType = "localhost"
)

// SecurityProfile names a seccomp profile (Localhost is an absolute path) or an AppArmor profile (Localhost is a
// profile name). A nil *SecurityProfile means that the request did not say.
type SecurityProfile struct {
	Type      ProfileType
	Localhost string
}

// SELinuxOptions are the parts of an SELinux label; all empty means that the request did not say.
type SELinuxOptions struct{ User, Role, Type, Level string }

// Metadata is the identity that the kubelet gives a sandbox. All four together are the idempotency key.
type Metadata struct {
	Name      string
	UID       string
	Namespace string
	Attempt   uint32
}

// DNS is the pod's resolver configuration; a nil *DNS means the node's own, less its loopback resolvers.
type DNS struct {
	Servers  []string
	Searches []string
	Options  []string
}

// Protocol of a port mapping.
type Protocol string

const (
	TCP  Protocol = "tcp"
	UDP  Protocol = "udp"
	SCTP Protocol = "sctp"
)

// PortMapping publishes a pod's port on the node. HostIP "" is every address of the node. HostPort 0 publishes nothing.
type PortMapping struct {
	Protocol      Protocol
	HostIP        string
	HostPort      uint16
	ContainerPort uint16
}

// Resources are the limits of one cgroup, in the kernel's own units. A nil pointer, an empty string or a zero means
// "not asked".
type Resources struct {
	CPUPeriod      int64 // µs
	CPUQuota       int64 // µs; -1 is unlimited
	CPUShares      int64
	MemoryLimit    int64 // bytes
	MemorySwap     int64 // bytes, memory + swap; -1 is unlimited
	CPUSetCPUs     string
	CPUSetMems     string
	OOMScoreAdj    int64 // -1000…1000
	HugepageLimits []HugepageLimit
	// Unified are cgroup v2 keys. On v1 only pids.max is understood.
	Unified map[string]string
}

// HugepageLimit limits one page size, for example "2MB".
type HugepageLimit struct {
	PageSize string
	Limit    uint64 // bytes
}

// NamespaceRequest names the namespaces to make for one pod. What is false is the node's.
type NamespaceRequest struct {
	SandboxID string
	User      bool
	UIDs      []IDMapping
	GIDs      []IDMapping
	Net       bool
	IPC       bool
	UTS       bool
	Hostname  string            // set when UTS
	Sysctls   map[string]string // dotted names; only of namespaces that are made
}

// InitRequest is for the init of a pod that shares its PID namespace.
type InitRequest struct {
	SandboxID  string
	CgroupPath string // its own leaf, below each hierarchy
}

// FilesRequest describes a pod's files. RootUID and RootGID own them: the node's ids of the pod's root.
type FilesRequest struct {
	SandboxID   string
	RootUID     uint32
	RootGID     uint32
	Hostname    string // "" with the node's UTS namespace: the node's own
	HostNetwork bool
	HostIPC     bool // no /dev/shm of its own
	DNS         *DNS
	Addresses   []Address
}

// NetworkRequest is for one pod with a network namespace of its own.
type NetworkRequest struct {
	SandboxID string
	Netns     string // path of the pin
	Ports     []PortMapping
	// What follows is for the plugins of a network that is not the built-in one.
	Metadata    Metadata
	Annotations map[string]string
	DNS         *DNS
}

// SandboxRequest is what RunPodSandbox asked for, translated and checked for form. It is recorded unchanged.
type SandboxRequest struct {
	Metadata     Metadata
	Hostname     string
	LogDirectory string
	DNS          *DNS
	Ports        []PortMapping
	Labels       map[string]string
	Annotations  map[string]string // stored and returned; read by nobody but a network of plugins
	CgroupParent string            // cgroupfs-shaped; "" is the configured root
	Sysctls      map[string]string
	Overhead     *Resources
	Resources    *Resources
	Handler      string
	Security     SandboxSecurity
}

// SandboxSecurity is the security context of a sandbox.
type SandboxSecurity struct {
	Namespaces         Namespaces
	SELinux            SELinuxOptions
	RunAsUser          *int64
	RunAsGroup         *int64
	ReadonlyRootfs     bool
	SupplementalGroups []int64
	// StrictGroups is the CRI's SupplementalGroupsPolicy Strict: groups of the image's /etc/group are not added.
	StrictGroups bool
	Privileged   bool
	Seccomp      *SecurityProfile
	AppArmor     *SecurityProfile
}

// KeyValue is an environment variable.
type KeyValue struct{ Key, Value string }

// Propagation of a mount.
type Propagation string

const (
	PropagationPrivate         Propagation = "private"
	PropagationHostToContainer Propagation = "host-to-container" // rslave
	PropagationBidirectional   Propagation = "bidirectional"     // rshared
)

// Mount is a bind mount from the host, or of an image. HostPath is absolute, ContainerPath may be relative to /.
type Mount struct {
	ContainerPath string
	HostPath      string
	// Image names a local image whose files are mounted, read-only, in the place of HostPath: ImageSubPath is what of
	// it, "" for all. UserImage is what the user wrote, for status.
	Image        string
	ImageSubPath string
	UserImage    string
	Readonly     bool
	// RecursiveReadonly needs Readonly and PropagationPrivate.
	RecursiveReadonly bool
	SELinuxRelabel    bool
	Propagation       Propagation
	// Options are some of noexec, nodev and nosuid; they hold for mounts below it too.
	Options []string
	UIDs    []IDMapping
	GIDs    []IDMapping
}

// Device makes a host device visible. Permissions is a subset of "rwm". HostPath may be a directory of devices.
type Device struct {
	ContainerPath string
	HostPath      string
	Permissions   string
}

// ContainerSecurity is the security context of a container.
type ContainerSecurity struct {
	Capabilities       CapabilityChange
	Privileged         bool
	Namespaces         Namespaces
	SELinux            SELinuxOptions
	RunAsUser          *int64
	RunAsUsername      string
	RunAsGroup         *int64
	ReadonlyRootfs     bool
	SupplementalGroups []int64
	StrictGroups       bool
	NoNewPrivileges    bool
	MaskedPaths        []string
	ReadonlyPaths      []string
	Seccomp            *SecurityProfile
	AppArmor           *SecurityProfile
}

// CapabilityChange is relative to the node's default list. Names come with or without "CAP_", in any case; "ALL" is
// every capability that the runtime itself holds.
type CapabilityChange struct {
	Add        []string
	Drop       []string
	AddAmbient []string
}

// ContainerRequest is what CreateContainer asked for.
type ContainerRequest struct {
	Name    string
	Attempt uint32
	// Image is what to run: an image id, a digest reference or a tag. UserImage is what the user wrote, for status.
	Image       string
	UserImage   string
	Command     []string // replaces the image's entrypoint
	Args        []string // replaces the image's cmd
	WorkingDir  string
	Env         []KeyValue
	Mounts      []Mount
	Devices     []Device
	CDIDevices  []string // qualified names, "vendor.example/class=device", each once
	Labels      map[string]string
	Annotations map[string]string // opaque
	LogPath     string            // relative to the sandbox's LogDirectory; "" writes no log
	Stdin       bool
	StdinOnce   bool
	TTY         bool
	StopSignal  string // "" is the image's, then SIGTERM
	Resources   *Resources
	Security    ContainerSecurity
}
