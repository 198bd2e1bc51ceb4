package spec

import specs "github.com/opencontainers/runtime-spec/specs-go"

// ImageConfig is what an image says about itself. All of it is the image author's, so an attacker's: it is shown,
// and checked where it is used, and it never selects a file of the host, a hook, a device or a command of the runtime.
type ImageConfig struct {
	User         string
	Env          []string
	Entrypoint   []string
	Cmd          []string
	WorkingDir   string
	Volumes      []string
	StopSignal   string
	Labels       map[string]string
	Architecture string
	OS           string
}

// Image is a local image.
type Image struct {
	ID          string   // "sha256:<hex>", the digest of its config
	RepoTags    []string // normalised, such as docker.io/library/busybox:latest
	RepoDigests []string
	Size        uint64   // bytes on disk of its unpacked layers
	Layers      []string // chain ids "sha256:<hex>", lowest first
	DiffIDs     []string // digests of the layers' uncompressed archives "sha256:<hex>", lowest first
	Config      ImageConfig
	CreatedAt   int64 // ns, from the config; 0 where it does not say
	Pinned      bool
}

// ImageUse is what a container record keeps of its image.
type ImageUse struct {
	ID        string
	Ref       string   // repository@digest where one is known, else the id
	UserImage string   // what the user asked for
	Layers    []string // chain ids, lowest first
	Config    ImageConfig
}

// User is a resolved identity, in ids as seen inside the container. Groups always contains GID.
type User struct {
	UID    uint32
	GID    uint32
	Groups []uint32
	// Home is the user's home directory as the image's passwd has it, "/" where it has none.
	Home string
}

// Reason says why a container or a sandbox has less confinement than the default, or which part of the request was
// ignored. Field is the request's field ("security.privileged"); Text is a sentence for a person.
type Reason struct{ Field, Text string }

// Profile is what a container may do: the one answer of security.Resolve. The bundle copies it into config.json; the
// shim executes that blindly.
type Profile struct {
	User         User
	Capabilities specs.LinuxCapabilities
	// NoNewPrivileges as prctl(2) PR_SET_NO_NEW_PRIVS.
	NoNewPrivileges bool
	// Seccomp is never nil: ProfileUnconfined is said, not left out.
	Seccomp SecurityProfile
	// AppArmor is a profile name to apply, or "" for none.
	AppArmor      string
	SELinuxLabel  string
	SELinuxMount  string
	Privileged    bool
	ReadonlyRoot  bool
	MaskedPaths   []string
	ReadonlyPaths []string
	OOMScoreAdj   *int
	Rlimits       []specs.POSIXRlimit
	// HostIDs: the container runs without the pod's user namespace, with the node's ids.
	HostIDs bool
	// Reasons lists what was excused and what was ignored, for the record.
	Reasons []Reason
}

// SandboxProfile is the answer for a sandbox as a whole: its user namespace.
type SandboxProfile struct {
	// UserNamespace: the pod has a user namespace. UIDs and GIDs are its maps; both empty until the range of the
	// node's pool is allocated, when the request gave none.
	UserNamespace bool
	UIDs          []IDMapping
	GIDs          []IDMapping
	Sysctls       map[string]string
	Reasons       []Reason
}
