package address

import (
	"net/netip"
	"testing"

	"github.com/containerd/errdefs"
)

func testPool(cidr, gateway string) *Pool {
	s := Subnet{Prefix: netip.MustParsePrefix(cidr)}
	if gateway != "" {
		s.Gateway = netip.MustParseAddr(gateway)
	}
	return NewPool(s)
}

func TestPoolCapacity(t *testing.T) {
	for _, c := range []struct {
		cidr, gateway, first string
		capacity             int
	}{
		{"10.0.0.0/30", "", "10.0.0.2", 1},
		{"10.0.0.0/30", "10.0.0.2", "10.0.0.1", 1},
		{"10.0.0.0/24", "", "10.0.0.2", 253},
		{"10.0.0.0/24", "10.0.0.254", "10.0.0.1", 253},
		{"10.88.0.0/16", "", "10.88.0.2", 65533},
		{"10.0.0.0/8", "", "10.0.0.2", 1<<24 - 3},
		{"fd00::/126", "", "fd00::2", 2},
		{"fd00::/126", "fd00::3", "fd00::1", 2},
		{"fd00::/64", "", "fd00::2", 1<<32 - 2},
		{"fd00::/64", "fd00::ffff:ffff:ffff:ffff", "fd00::1", 1<<32 - 1},
		{"fd00::/48", "fd00:0:0:1::1", "fd00::1", 1<<32 - 1},
	} {
		p := testPool(c.cidr, c.gateway)
		if p.Capacity() != c.capacity {
			t.Errorf("%s: capacity %d, want %d", c.cidr, p.Capacity(), c.capacity)
		}
		if a, err := p.Take("x"); err != nil || a.String() != c.first {
			t.Errorf("%s: first is %v (%v), want %s", c.cidr, a, err, c.first)
		}
	}
}

func TestPoolGivesBackLast(t *testing.T) {
	p := testPool("10.0.0.0/29", "")
	a, _ := p.Take("a")
	p.Release(a, "somebody else")
	if len(p.used) != 1 {
		t.Error("an address was released by somebody else")
	}
	p.Release(a, "a")
	for i := range 4 {
		if b, err := p.Take("b"); err != nil || b == a {
			t.Errorf("take %d: %v, %v", i, b, err)
		}
	}
	if b, err := p.Take("c"); err != nil || b != a {
		t.Errorf("the last one: %v, %v, want %v", b, err, a)
	}
	if _, err := p.Take("d"); !errdefs.IsResourceExhausted(err) {
		t.Errorf("none is left: %v", err)
	}
}

func TestPoolClaim(t *testing.T) {
	p := testPool("10.0.0.0/29", "")
	ip := netip.MustParseAddr
	for _, c := range []struct {
		addr, id string
		is       func(error) bool
	}{
		{"10.0.0.3", "a", func(err error) bool { return err == nil }},
		{"10.0.0.3", "a", func(err error) bool { return err == nil }},
		{"10.0.0.3", "b", errdefs.IsAlreadyExists},
		{"10.0.0.0", "a", errdefs.IsFailedPrecondition},
		{"10.0.0.1", "a", errdefs.IsFailedPrecondition}, // gateway
		{"10.0.0.7", "a", errdefs.IsFailedPrecondition}, // broadcast
		{"10.0.0.8", "a", errdefs.IsFailedPrecondition},
		{"fd00::1", "a", errdefs.IsFailedPrecondition},
	} {
		if err := p.Claim(ip(c.addr), c.id); !c.is(err) {
			t.Errorf("claim %s for %s: %v", c.addr, c.id, err)
		}
	}
	if a, _ := p.Take("c"); a != ip("10.0.0.4") {
		t.Errorf("after a claim of .3 comes %v, want .4", a)
	}
	q := testPool("fd00::/48", "")
	if err := q.Claim(ip("fd00:0:0:1::5"), "a"); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("an address beyond counting: %v", err)
	}
}

// FuzzPool lets takes, releases and claims follow each other and compares with a plain set.
func FuzzPool(f *testing.F) {
	f.Add(uint8(29), false, []byte{0, 0, 0, 1, 2, 0, 0, 0, 0, 0})
	f.Add(uint8(30), false, []byte{0, 0, 5, 0})
	f.Add(uint8(126), true, []byte{0, 0, 0, 2, 6, 0})
	f.Add(uint8(120), true, []byte{0, 9, 0, 8, 1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, bits uint8, v6 bool, ops []byte) {
		cidr, low := "10.0.0.0/8", 24
		if v6 {
			cidr, low = "fd00::/64", 120
		}
		n := low + int(bits)%(netip.MustParsePrefix(cidr).Addr().BitLen()-1-low)
		prefix := netip.PrefixFrom(netip.MustParsePrefix(cidr).Addr(), n)
		p := NewPool(Subnet{Prefix: prefix})
		held := map[netip.Addr]string{}
		var order []netip.Addr
		var last netip.Addr // given back most recently
		for i, op := range ops {
			id := string(rune('a' + i%26))
			switch op % 4 {
			case 0, 1:
				full := len(held) == p.Capacity()
				a, err := p.Take(id)
				if full != (err != nil) {
					t.Fatalf("%d of %d are in use, take says %v", len(held), p.Capacity(), err)
				}
				if err != nil {
					continue
				}
				if held[a] != "" || a == p.gateway || !prefix.Contains(a) || a == prefix.Addr() || a == lastAddr(prefix) {
					t.Fatalf("%v must not be given", a)
				}
				if a == last && len(held)+1 < p.Capacity() {
					t.Fatalf("%v is used again though others are free", a)
				}
				held[a], last = id, netip.Addr{}
				order = append(order, a)
			case 2:
				if len(order) > 0 {
					a := order[int(op)%len(order)]
					p.Release(a, held[a])
					if held[a] != "" {
						last = a
					}
					delete(held, a)
				}
			case 3:
				if a := p.at(uint64(op) % (p.last + 2)); p.Claim(a, id) == nil {
					held[a], last = id, netip.Addr{}
					order = append(order, a)
				}
			}
			if len(held) != len(p.used) {
				t.Fatalf("the pool holds %d, want %d", len(p.used), len(held))
			}
		}
	})
}
