package address

import (
	"net/netip"
	"testing"
)

func TestHardwareAddresses(t *testing.T) {
	m := MAC(netip.MustParseAddr("10.88.1.2"))
	if m != [6]byte{0x0a, 0x58, 10, 88, 1, 2} || LinkLocal(m).String() != "fe80::858:aff:fe58:102" {
		t.Errorf("MAC %x, link-local %s", m, LinkLocal(m))
	}
	if m := MAC(netip.MustParseAddr("fd00::2")); m[0]&3 != 2 {
		t.Errorf("MAC %x is not unicast and local", m)
	}
	for cidr, want := range map[string]string{"10.0.0.0/8": "10.255.255.255", "10.0.0.4/30": "10.0.0.7", "192.0.2.0/25": "192.0.2.127"} {
		if got := lastAddr(netip.MustParsePrefix(cidr)); got.String() != want {
			t.Errorf("%s: broadcast %s, want %s", cidr, got, want)
		}
	}
}

// FuzzParse takes what an operator may write: every subnet that is valid has a pool whose addresses lie in it.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"10.88.0.0/16", "fd00::/64", "10.0.0.1/30", "::ffff:1.2.3.4/120", "0.0.0.0/0", "10.0.0.0/31", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		subnets, err := Parse([]string{s})
		if err != nil || subnets[0].Validate() != nil {
			return
		}
		p := NewPool(subnets[0])
		for range 3 {
			a, err := p.Take("x")
			if err != nil {
				return
			}
			if !subnets[0].Prefix.Contains(a) || a == subnets[0].Router() || p.at(p.mustOffset(a)) != a {
				t.Fatalf("%s gives %s", s, a)
			}
		}
	})
}

func (p *Pool) mustOffset(a netip.Addr) uint64 {
	o, ok := p.offset(a)
	if !ok {
		panic(a.String() + " has no offset")
	}
	return o
}
