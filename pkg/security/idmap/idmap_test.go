package idmap

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func TestAllocateNeverOverlaps(t *testing.T) {
	p := Pool{Start: 1000, Size: 10, Count: 5}
	var taken []Range
	for i := range 5 {
		r, err := p.Allocate(taken)
		if err != nil {
			t.Fatal(err)
		}
		if want := uint32(1000 + 10*i); r.Start != want {
			t.Errorf("allocation %d starts at %d, want the lowest free, %d", i, r.Start, want)
		}
		taken = append(taken, r)
	}
	if _, err := p.Allocate(taken); !errors.Is(err, errdefs.ErrResourceExhausted) {
		t.Errorf("an empty pool answers %v", err)
	}
	taken = append(taken[:2], taken[3:]...)
	if r, err := p.Allocate(taken); err != nil || r.Start != 1020 {
		t.Errorf("a range that was given back: %v, %v", r, err)
	}
}

func TestAllocateAvoidsForeignRanges(t *testing.T) {
	for _, c := range []struct {
		name  string
		taken []Range
		want  uint32
	}{
		{"none", nil, 1000},
		{"below the pool", []Range{{0, 1000}}, 1000},
		{"one id into the pool", []Range{{0, 1001}}, 1010},
		{"across two", []Range{{1009, 2}}, 1020},
		{"above the pool", []Range{{1050, 100}}, 1000},
		{"empty", []Range{{1000, 0}}, 1000},
		{"to the end of all ids", []Range{{1020, 4294966275}}, 1000},
	} {
		if r, err := (Pool{1000, 10, 5}).Allocate(c.taken); err != nil || r.Start != c.want {
			t.Errorf("%s: %v, %v; want %d", c.name, r, err, c.want)
		}
	}
}

func TestAllocateProperty(t *testing.T) {
	p := Pool{Start: 500, Size: 7, Count: 40}
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var taken []Range
		for range rnd.IntN(60) {
			taken = append(taken, Range{rnd.Uint32N(1000), rnd.Uint32N(20)})
		}
		r, err := p.Allocate(taken)
		if err != nil {
			continue
		}
		for _, o := range taken {
			if o.Size > 0 && r.Overlaps(o) {
				t.Fatalf("seed %d: %v overlaps %v", seed, r, o)
			}
		}
		if !p.Holds(r.Start) || !p.Holds(r.Start+r.Size-1) {
			t.Fatalf("seed %d: %v is outside the pool", seed, r)
		}
	}
}

func TestPoolCheck(t *testing.T) {
	for _, c := range []struct {
		name string
		pool Pool
		ok   bool
	}{
		{"default", Default, true},
		{"no ranges", Pool{1, 1, 0}, false},
		{"empty ranges", Pool{1, 0, 1}, false},
		{"the node's root", Pool{0, 1, 1}, false},
		{"to the last id", Pool{4294967294, 1, 1}, true},
		{"beyond it", Pool{4294967294, 2, 1}, false},
		{"wraps", Pool{1 << 31, 1 << 31, 2}, false},
	} {
		if err := c.pool.Check(); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestCheckMaps(t *testing.T) {
	many := make([]spec.IDMapping, 341)
	for i := range many {
		many[i] = spec.IDMapping{ContainerID: uint32(i), HostID: uint32(1000 + i), Size: 1}
	}
	for _, c := range []struct {
		name string
		maps []spec.IDMapping
		ok   bool
	}{
		{"one", []spec.IDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}, true},
		{"two with a gap", []spec.IDMapping{{ContainerID: 0, HostID: 100000, Size: 10}, {ContainerID: 20, HostID: 200000, Size: 10}}, true},
		{"id 0 is not mapped", []spec.IDMapping{{ContainerID: 1, HostID: 100000, Size: 10}}, false},
		{"id 0 in the second line", []spec.IDMapping{{ContainerID: 5, HostID: 100000, Size: 10}, {ContainerID: 0, HostID: 200000, Size: 5}}, true},
		{"the same line twice", []spec.IDMapping{{ContainerID: 0, HostID: 1000, Size: 100000}, {ContainerID: 0, HostID: 1000, Size: 100000}}, false},
		{"two ranges for id 0", []spec.IDMapping{{ContainerID: 0, HostID: 1000, Size: 100000}, {ContainerID: 0, HostID: 200000, Size: 100000}}, false},
		{"the whole space", []spec.IDMapping{{ContainerID: 0, HostID: 1, Size: 4294967294}}, true},
		{"none", nil, false},
		{"no ids", []spec.IDMapping{{ContainerID: 0, HostID: 100000, Size: 0}}, false},
		{"the node's root", []spec.IDMapping{{ContainerID: 0, HostID: 0, Size: 65536}}, false},
		{"overlap inside", []spec.IDMapping{{ContainerID: 0, HostID: 100000, Size: 10}, {ContainerID: 9, HostID: 200000, Size: 10}}, false},
		{"overlap outside", []spec.IDMapping{{ContainerID: 0, HostID: 100000, Size: 10}, {ContainerID: 20, HostID: 100009, Size: 10}}, false},
		{"wraps inside", []spec.IDMapping{{ContainerID: 4294967295, HostID: 100000, Size: 2}}, false},
		{"wraps outside", []spec.IDMapping{{ContainerID: 0, HostID: 4294967290, Size: 10}}, false},
		{"the id that is none", []spec.IDMapping{{ContainerID: 0, HostID: 4294967295, Size: 1}}, false},
		{"too many lines", many, false},
	} {
		if err := CheckMaps("uid", c.maps); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestEqual(t *testing.T) {
	a := []spec.IDMapping{{ContainerID: 0, HostID: 1, Size: 2}, {ContainerID: 5, HostID: 6, Size: 7}}
	b := []spec.IDMapping{{ContainerID: 5, HostID: 6, Size: 7}, {ContainerID: 0, HostID: 1, Size: 2}}
	if !Equal(a, b) || Equal(a, a[:1]) || a[0].ContainerID != 0 {
		t.Error("maps are equal in any order, and are not changed")
	}
}

func FuzzCheckMaps(f *testing.F) {
	f.Add(uint32(0), uint32(1000), uint32(5), uint32(9), uint32(2000), uint32(1))
	f.Fuzz(func(t *testing.T, a, b, c, d, e, g uint32) {
		m := []spec.IDMapping{{ContainerID: a, HostID: b, Size: c}, {ContainerID: d, HostID: e, Size: g}}
		if CheckMaps("uid", m) == nil {
			if b == 0 || e == 0 || uint64(b)+uint64(c) > 4294967295 || uint64(a)+uint64(c) > 4294967295 {
				t.Errorf("accepted %v", m)
			}
		}
	})
}
