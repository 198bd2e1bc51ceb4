package idmap

import (
	"math"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Range is Size ids from Start on.
type Range struct{ Start, Size uint32 }

func (r Range) end() uint64 { return uint64(r.Start) + uint64(r.Size) }

// Overlaps tells whether an id is in both.
func (r Range) Overlaps(o Range) bool {
	return uint64(r.Start) < o.end() && uint64(o.Start) < r.end()
}

// Pool is the part of the node's ids that this daemon hands out, as Count ranges of Size ids from Start on.
type Pool struct{ Start, Size, Count uint32 }

// Default begins far above the kubelet's own, which hands out from 65536 up.
var Default = Pool{Start: 0x40000000, Size: 65536, Count: 8192}

// Check tells what is wrong with the pool. Id 2³²−1 is "no id" for the kernel (user_namespaces(7)).
func (p Pool) Check() error {
	switch {
	case p.Size == 0 || p.Count == 0:
		return spec.Invalidf("a pool of %d ranges of %d ids is empty", p.Count, p.Size)
	case p.Start == 0:
		return spec.Invalidf("a pool that begins at id 0 holds the node's root")
	case uint64(p.Start)+uint64(p.Size)*uint64(p.Count) > math.MaxUint32:
		return spec.Invalidf("a pool of %d ranges of %d ids from %d on ends behind the last id, %d", p.Count, p.Size, p.Start, uint32(math.MaxUint32-1))
	}
	return nil
}

// Holds tells whether id is one of the pool's.
func (p Pool) Holds(id uint32) bool {
	return id >= p.Start && uint64(id) < uint64(p.Start)+uint64(p.Size)*uint64(p.Count)
}

// Allocate returns the lowest range of the pool that overlaps none of taken; errdefs.ErrResourceExhausted where there
// is none.
func (p Pool) Allocate(taken []Range) (Range, error) {
	if err := p.Check(); err != nil {
		return Range{}, err
	}
	slots := make(map[uint64]bool, len(taken))
	for _, t := range taken {
		if t.Size == 0 || !t.Overlaps(Range{p.Start, 1}) && t.end() <= uint64(p.Start) {
			continue
		}
		first := (max(uint64(t.Start), uint64(p.Start)) - uint64(p.Start)) / uint64(p.Size)
		last := (t.end() - 1 - uint64(p.Start)) / uint64(p.Size)
		for s := first; s <= min(last, uint64(p.Count)-1); s++ {
			slots[s] = true
		}
	}
	for s := range uint64(p.Count) {
		if !slots[s] {
			return Range{Start: p.Start + uint32(s)*p.Size, Size: p.Size}, nil
		}
	}
	return Range{}, spec.Errorf(errdefs.ErrResourceExhausted,
		"all %d ranges of the pool from id %d on are in use: remove pods, or give the pool more ranges", p.Count, p.Start)
}

// maxLines of a map, since Linux 4.15 (user_namespaces(7)).
const maxLines = 340

// CheckMaps tells what is wrong with a map that a request brings; what names it ("uid", "gid"). Lines may not be empty,
// go beyond the last id or overlap on either side. Container id 0 must be mapped, because what sets a container up is
// its root; the node's id 0 may not be, because a pod with it is no better off than without a user namespace.
func CheckMaps(what string, maps []spec.IDMapping) error {
	if len(maps) == 0 {
		return spec.Invalidf("the %s map is empty", what)
	}
	if len(maps) > maxLines {
		return spec.Invalidf("the %s map has %d lines, the kernel takes %d", what, len(maps), maxLines)
	}
	for i, m := range maps {
		inside, outside := Range{m.ContainerID, m.Size}, Range{m.HostID, m.Size}
		switch {
		case m.Size == 0:
			return spec.Invalidf("line %d of the %s map maps no id", i, what)
		case inside.end() > math.MaxUint32 || outside.end() > math.MaxUint32:
			return spec.Invalidf("line %d of the %s map (%d %d %d) goes beyond the last id", i, what, m.ContainerID, m.HostID, m.Size)
		case outside.Start == 0:
			return spec.Invalidf("line %d of the %s map maps to the node's id 0: ask for the node's user namespace instead", i, what)
		}
		for _, o := range maps[:i] {
			if inside.Overlaps(Range{o.ContainerID, o.Size}) || outside.Overlaps(Range{o.HostID, o.Size}) {
				return spec.Invalidf("line %d of the %s map (%d %d %d) overlaps an earlier one", i, what, m.ContainerID, m.HostID, m.Size)
			}
		}
	}
	if RootSpan(maps) == 0 {
		return spec.Invalidf("the %s map does not map the container's id 0, which sets the container up", what)
	}
	return nil
}

// Equal tells whether both maps are the same, in any order.
func Equal(a, b []spec.IDMapping) bool {
	order := func(x, y spec.IDMapping) int { return int(int64(x.ContainerID) - int64(y.ContainerID)) }
	a, b = slices.Clone(a), slices.Clone(b)
	slices.SortFunc(a, order)
	slices.SortFunc(b, order)
	return slices.Equal(a, b)
}
