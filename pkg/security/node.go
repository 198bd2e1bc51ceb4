package security

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/runtimed/runtimed/pkg/security/capability"
)

// Policy is how the node reads what a request leaves open.
type Policy string

const (
	// PolicyAuto, the default: a pod is sandboxed unless it asked for the host. No pod fails because of it.
	PolicyAuto Policy = "auto"
	// PolicyCRI gives a pod exactly what the CRI request says, and what the CRI says of what a request leaves out: no
	// seccomp filter that it does not name, but a user namespace (see Differences).
	PolicyCRI Policy = "cri"
)

// Node is what the node has, and its policy: plain data for the resolver. Package probe fills it from the kernel. The
// zero value is a node where nothing special is there and nothing may be given.
type Node struct {
	Policy Policy // "" is PolicyAuto
	// DefaultCapabilities is what a container gets that asks for nothing, capability.Default where it is nil;
	// HeldCapabilities is the most that one with the node's ids can get.
	DefaultCapabilities []string
	HeldCapabilities    []string
	// AppArmor: the kernel enforces it. AppArmorLoaded tells whether a profile is loaded; nil: none is.
	AppArmor       bool
	AppArmorLoaded func(name string) bool
	SELinux        bool
	// AppArmorDefault is the name of the default profile; "" where it is not loaded.
	AppArmorDefault string
	// MountAttr: the kernel changes a mount with all that is mounted below it (mount_setattr(2), AT_RECURSIVE).
	MountAttr bool
	// UserNamespacesHostNetwork: a container in a user namespace can be shown the node's network, which owns another.
	UserNamespacesHostNetwork bool
	// SeccompRoot is the directory below which profiles of the type Localhost must be; "" or "/" is anywhere.
	SeccompRoot string
	// MinOOMScoreAdj is the lowest oom_score_adj that the daemon may give to another process.
	MinOOMScoreAdj int
	// Rlimits is what every container starts from, whatever the daemon itself was started with.
	Rlimits []specs.POSIXRlimit
	// PoolSize is the number of ids in a range of the node's pool; 0 is 65536.
	PoolSize uint32
	// MaskedPaths are hidden in every container beside the fixed list: paths that differ from machine to machine.
	MaskedPaths []string
}

func (n Node) defaultCapabilities() []string {
	if n.DefaultCapabilities == nil {
		return capability.Default
	}
	return n.DefaultCapabilities
}

func (n Node) poolSize() uint32 {
	if n.PoolSize == 0 {
		return 65536
	}
	return n.PoolSize
}
