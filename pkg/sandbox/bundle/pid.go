package bundle

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// pidMode: POD is whatever the pod has, because the CRI cannot tell an unset mode from POD. A pod of CONTAINER mode has
// no PID namespace to share, so each of its containers gets its own.
func (in Input) pidMode() spec.NamespaceMode {
	mode := in.Container.Request.Security.Namespaces.PID
	if mode == spec.NamespacePod || mode == spec.NamespaceUnset {
		return in.Sandbox.Request.Security.Namespaces.PID
	}
	return mode
}

// pidOwner is the process whose PID namespace is joined: the pod's init, or the target's first process. The creator
// makes sure that it is still this one.
func (in Input) pidOwner() *spec.Process {
	switch in.pidMode() {
	case spec.NamespacePod:
		return in.PodInit
	case spec.NamespaceTarget:
		return in.PIDTarget
	}
	return nil
}

func (in Input) pidNamespace(list []specs.LinuxNamespace) ([]specs.LinuxNamespace, error) {
	owner := in.pidOwner()
	gone := owner == nil || owner.PID <= 1
	switch mode := in.pidMode(); {
	case mode == spec.NamespaceNode:
		return list, nil
	case mode == spec.NamespaceContainer:
		return append(list, specs.LinuxNamespace{Type: specs.PIDNamespace}), nil
	case mode == spec.NamespacePod && gone:
		return nil, spec.Preconditionf("sandbox %s shares its PID namespace, and its init is not running", in.Sandbox.ID)
	case mode == spec.NamespaceTarget && gone:
		return nil, spec.Preconditionf("container %q is not running, so it has no PID namespace to share", in.Container.PIDTarget)
	case mode == spec.NamespacePod || mode == spec.NamespaceTarget:
		return append(list, specs.LinuxNamespace{Type: specs.PIDNamespace, Path: procNS(owner.PID, "pid")}), nil
	default:
		return nil, spec.Invalidf("security.namespaces.pid: mode %q is not possible", mode)
	}
}
