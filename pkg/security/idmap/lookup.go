package idmap

import "github.com/runtimed/runtimed/pkg/sandbox/spec"

// Map is the one line that maps ids 0…Size-1 of a pod to the range, for users and groups alike.
func (r Range) Map() []spec.IDMapping {
	return []spec.IDMapping{{ContainerID: 0, HostID: r.Start, Size: r.Size}}
}

// Ranges are the node's ids that maps use, for Allocate: explicit mappings of other pods count as taken too.
func Ranges(maps ...[]spec.IDMapping) []Range {
	var out []Range
	for _, lines := range maps {
		for _, m := range lines {
			out = append(out, Range{m.HostID, m.Size})
		}
	}
	return out
}

// ToHost is the node's id of a container's id.
func ToHost(maps []spec.IDMapping, id uint32) (uint32, bool) {
	for _, m := range maps {
		if id >= m.ContainerID && uint64(id) < uint64(m.ContainerID)+uint64(m.Size) {
			return m.HostID + (id - m.ContainerID), true
		}
	}
	return 0, false
}

// Mapped tells whether a container's id has one of the node's.
func Mapped(maps []spec.IDMapping, id uint32) bool {
	_, ok := ToHost(maps, id)
	return ok
}

// RootSpan is how many container ids from 0 on the line of id 0 maps; 0 where it is not mapped.
func RootSpan(maps []spec.IDMapping) uint32 {
	for _, m := range maps {
		if m.ContainerID == 0 {
			return m.Size
		}
	}
	return 0
}
