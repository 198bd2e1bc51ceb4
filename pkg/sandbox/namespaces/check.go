package namespaces

import (
	"fmt"
	"slices"
	"strings"

	"github.com/runtimed/runtimed/pkg/sandbox/namespaces/wire"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

const (
	maxHostname = 64  // sethostname(2), __NEW_UTS_LEN
	maxMapLines = 340 // user_namespaces(7)
	maxValue    = 4000
)

// Check tells, without making anything, whether Create would take the request. Errors are InvalidArgument.
func Check(r spec.NamespaceRequest) error {
	if err := checkID(r.SandboxID); err != nil {
		return err
	}
	if err := checkHostname(r); err != nil {
		return err
	}
	if !r.User && len(r.UIDs)+len(r.GIDs) > 0 {
		return spec.Invalidf("id mappings without a user namespace")
	}
	if r.User {
		if err := checkMap("uid", r.UIDs); err != nil {
			return err
		}
		if err := checkMap("gid", r.GIDs); err != nil {
			return err
		}
	}
	_, err := setup(r)
	return err
}

func checkHostname(r spec.NamespaceRequest) error {
	switch {
	case r.Hostname == "":
		return nil
	case !r.UTS:
		return spec.Invalidf("host name %.80q: the pod uses the node's UTS namespace", r.Hostname)
	case len(r.Hostname) > maxHostname:
		return spec.Invalidf("host name of %d bytes is longer than %d", len(r.Hostname), maxHostname)
	}
	for i := range len(r.Hostname) {
		c := r.Hostname[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_') {
			return spec.Invalidf("host name %q: only letters, digits, '-', '.' and '_' may be in it", r.Hostname)
		}
	}
	return nil
}

// checkMap: the kernel takes the same maps, but its only word for every fault is EINVAL.
func checkMap(what string, lines []spec.IDMapping) error {
	root := false
	for i, a := range lines {
		switch {
		case a.Size == 0:
			return spec.Invalidf("%s mapping %d is empty", what, i)
		case uint64(a.ContainerID)+uint64(a.Size) > 1<<32-1 || uint64(a.HostID)+uint64(a.Size) > 1<<32-1:
			return spec.Invalidf("%s mapping %d (%d → %d, %d ids) goes past the last id", what, i, a.ContainerID, a.HostID, a.Size)
		}
		root = root || a.ContainerID == 0
		for j, b := range lines[:i] {
			if overlap(a.ContainerID, b.ContainerID, a.Size, b.Size) || overlap(a.HostID, b.HostID, a.Size, b.Size) {
				return spec.Invalidf("%s mappings %d and %d overlap", what, j, i)
			}
		}
	}
	switch {
	case len(lines) > maxMapLines:
		return spec.Invalidf("%d %s mappings: the kernel takes %d", len(lines), what, maxMapLines)
	case !root:
		return spec.Invalidf("no %s mapping for id 0 in the pod", what)
	}
	return nil
}

func overlap(a, b, sizeA, sizeB uint32) bool {
	return uint64(a) < uint64(b)+uint64(sizeB) && uint64(b) < uint64(a)+uint64(sizeA)
}

// setup is what the holder is told.
func setup(r spec.NamespaceRequest) ([]byte, error) {
	made := map[string]bool{"user": r.User, "net": r.Net, "ipc": r.IPC, "uts": r.UTS}
	s := wire.Setup{Hostname: r.Hostname, Loopback: r.Net, UIDMap: mapText(r.UIDs), GIDMap: mapText(r.GIDs)}
	for _, kind := range pinned {
		if made[kind] {
			s.Kinds = append(s.Kinds, kind)
		}
	}
	for name, value := range r.Sysctls {
		path := sysctlPath(name)
		ns := wire.Namespace(path)
		switch {
		case ns == "":
			return nil, spec.Invalidf("sysctl %.80q belongs to no namespace: it is the node's", name)
		case !made[ns]:
			return nil, spec.Invalidf("sysctl %q: the pod uses the node's %s namespace", name, ns)
		case len(value) > maxValue || strings.ContainsAny(value, "\n\x00"):
			return nil, spec.Invalidf("value of sysctl %q has a line break, a NUL or more than %d bytes", name, maxValue)
		}
		s.Sysctls = append(s.Sysctls, wire.Sysctl{Path: path, Value: value})
	}
	slices.SortFunc(s.Sysctls, func(a, b wire.Sysctl) int { return strings.Compare(a.Path, b.Path) })
	for i := 1; i < len(s.Sysctls); i++ {
		if s.Sysctls[i].Path == s.Sysctls[i-1].Path {
			return nil, spec.Invalidf("sysctl %s is given twice, with dots and with slashes", s.Sysctls[i].Path)
		}
	}
	b, err := s.Encode()
	if err != nil {
		return nil, spec.Invalidf("sysctls: %w", err)
	}
	return b, nil
}

// mapText is a map as the kernel takes it.
func mapText(lines []spec.IDMapping) string {
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "%d %d %d\n", l.ContainerID, l.HostID, l.Size)
	}
	return b.String()
}

// sysctlPath is the path below /proc/sys. As for sysctl(8), the first separator of a name decides: behind a dot, dots
// separate and slashes stand for dots (net.ipv4.conf.eth0/1.rp_filter); behind a slash it is a path.
func sysctlPath(name string) string {
	i := strings.IndexAny(name, "./")
	if i < 0 || name[i] == '/' {
		return name
	}
	return strings.NewReplacer(".", "/", "/", ".").Replace(name)
}
