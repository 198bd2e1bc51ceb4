package security

import (
	"path"
	"slices"
	"strings"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// maskedPaths are hidden from every container that is not privileged: moby's twelve, and what containers-common and the
// catalogue of escapes add. What is not there on a node is passed over.
var maskedPaths = []string{
	"/proc/acpi",
	"/proc/asound",
	"/proc/interrupts",
	"/proc/kcore",
	"/proc/keys",
	"/proc/latency_stats",
	"/proc/sched_debug",
	"/proc/scsi",
	"/proc/timer_list",
	"/proc/timer_stats",
	"/sys/devices/virtual/powercap",
	"/sys/firmware",
	"/sys/fs/selinux",
	"/sys/kernel/debug",
	"/sys/kernel/tracing",
}

// readonlyPaths can be read and not written.
var readonlyPaths = []string{
	"/proc/bus",
	"/proc/fs",
	"/proc/irq",
	"/proc/sys",
	"/proc/sysrq-trigger",
}

const maxPaths = 1024

// protect decides the masked and read-only paths: the union of the request's and ours, because a list that was written
// for another runtime does not know what this kernel has; under PolicyCRI the request's alone. An empty list is ours under
// each policy, because it cannot be told from one that was left out. Only a request with both lists empty, in a user
// namespace that the pod asked for itself, gets none: that is procMount: Unmasked, which Kubernetes allows nowhere else.
func protect(p *spec.Profile, r spec.ContainerSecurity, n Node, unmaskable bool) error {
	if p.Privileged {
		if len(r.MaskedPaths)+len(r.ReadonlyPaths) > 0 {
			p.Reasons = append(p.Reasons, spec.Reason{Field: "security.masked_paths", Text: "a privileged container sees and writes every path: masked and read-only paths have no effect"})
		}
		return nil
	}
	if unmaskable && len(r.MaskedPaths)+len(r.ReadonlyPaths) == 0 {
		p.Reasons = append(p.Reasons, spec.Reason{Field: "security.masked_paths", Text: "no path is masked: the request names none, and the pod asked for a user namespace of its own"})
		return nil
	}
	masked, readonly := [][]string{maskedPaths, n.MaskedPaths}, [][]string{readonlyPaths}
	if len(r.MaskedPaths) > 0 && !n.reading().addPaths {
		masked = nil
	}
	if len(r.ReadonlyPaths) > 0 && !n.reading().addPaths {
		readonly = nil
	}
	var err error
	if p.MaskedPaths, err = union("security.masked_paths", r.MaskedPaths, masked...); err != nil {
		return err
	}
	p.ReadonlyPaths, err = union("security.readonly_paths", r.ReadonlyPaths, readonly...)
	return err
}

func union(field string, asked []string, ours ...[]string) ([]string, error) {
	if len(asked) > maxPaths {
		return nil, spec.Invalidf("%s: %d paths, at most %d are possible", field, len(asked), maxPaths)
	}
	var list []string
	for i, p := range asked {
		if !path.IsAbs(p) || strings.IndexByte(p, 0) >= 0 || len(p) > 4095 || path.Clean(p) == "/" {
			return nil, spec.Invalidf("%s[%d]: %.64q is not an absolute path below /", field, i, p)
		}
		list = append(list, path.Clean(p))
	}
	for _, l := range ours {
		list = append(list, l...)
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}
