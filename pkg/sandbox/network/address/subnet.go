package address

import (
	"crypto/sha256"
	"net/netip"
	"strings"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Subnet is a pool of pod addresses. Its gateway is the bridge's address; the zero Addr is the subnet's first.
type Subnet struct {
	Prefix  netip.Prefix
	Gateway netip.Addr
}

// Parse reads prefixes in CIDR notation, with the first address of each as the gateway. It checks form only; Validate
// checks the rest.
func Parse(cidrs []string) ([]Subnet, error) {
	var out []Subnet
	for _, c := range cidrs {
		p, err := netip.ParsePrefix(strings.TrimSpace(c))
		if err != nil {
			return nil, spec.Invalidf("subnet %q is not in CIDR notation such as 10.88.0.0/16", c)
		}
		out = append(out, Subnet{Prefix: p})
	}
	return out, nil
}

// Router returns the bridge's address in the subnet: the gateway, or the first address.
func (s Subnet) Router() netip.Addr {
	if s.Gateway.IsValid() {
		return s.Gateway
	}
	return s.Prefix.Masked().Addr().Next()
}

// Validate tells what is wrong with the subnet, as an InvalidArgument.
func (s Subnet) Validate() error {
	p := s.Prefix
	a := p.Addr()
	switch {
	case !p.IsValid():
		return spec.Invalidf("subnet is not a valid prefix")
	case a.Is4In6():
		return spec.Invalidf("subnet %s is an IPv4 prefix in IPv6 form; write it as IPv4", p)
	case p.Masked() != p:
		return spec.Invalidf("subnet %s has bits beyond its length; did you mean %s?", p, p.Masked())
	case a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast() || a.IsUnspecified():
		return spec.Invalidf("subnet %s is not unicast that can be routed", p)
	case a.Is4() && a.As4()[0] >= 240:
		return spec.Invalidf("subnet %s is reserved (RFC 1112)", p)
	case p.Bits() < 8 || p.Bits() > a.BitLen()-2:
		return spec.Invalidf("subnet %s: a prefix length of 8 to %d is possible", p, a.BitLen()-2)
	}
	g := s.Router()
	if !p.Contains(g) || g == a || g == lastAddr(p) {
		return spec.Invalidf("gateway %s is not an address for a host in subnet %s", g, p)
	}
	return nil
}

// lastAddr returns IPv4's broadcast address, and for IPv6 the zero Addr: it has none.
func lastAddr(p netip.Prefix) netip.Addr {
	if !p.Addr().Is4() {
		return netip.Addr{}
	}
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b)
}

// MAC is a pod's hardware address: a function of its primary address, so that a neighbour's cache entry stays right
// when an address is used again.
func MAC(primary netip.Addr) [6]byte {
	m := [6]byte{0x0a, 0x58}
	if primary.Is4() {
		a := primary.As4()
		copy(m[2:], a[:])
		return m
	}
	h := sha256.Sum256(primary.AsSlice())
	copy(m[2:], h[:])
	return m
}

// LinkLocal is the address that the kernel gives a link with this MAC (RFC 4291, appendix A).
func LinkLocal(m [6]byte) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]})
}
