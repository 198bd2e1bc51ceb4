package address

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Pool hands out a subnet's addresses in turn. One that was given back rests: it is used again only when no other is
// free, the one that rested longest first. It is not safe for concurrent use.
type Pool struct {
	prefix  netip.Prefix
	gateway netip.Addr
	last    uint64 // highest offset that may be given; the lowest is 1
	next    uint64 // where the search starts
	used    map[netip.Addr]string
	resting []netip.Addr // in the order of their release
}

// maxResting bounds the memory of a node that runs for years.
const maxResting = 4096

// maxOffset keeps an IPv6 subnet's pool at a size that can be counted.
const maxOffset = 1 << 32

// NewPool returns the pool of a valid subnet, with every address free.
func NewPool(s Subnet) *Pool {
	p := &Pool{prefix: s.Prefix.Masked(), gateway: s.Router(), next: 1, used: map[netip.Addr]string{}}
	hostBits := p.prefix.Addr().BitLen() - p.prefix.Bits()
	p.last = maxOffset - 1
	if hostBits < 32 {
		p.last = 1<<hostBits - 1
	}
	if p.prefix.Addr().Is4() {
		p.last = min(p.last, 1<<hostBits-2) // not the broadcast address
	}
	return p
}

// Capacity is the number of addresses for pods.
func (p *Pool) Capacity() int {
	n := int(p.last)
	if o, ok := p.offset(p.gateway); ok && o >= 1 && o <= p.last {
		n--
	}
	return n
}

// Take gives id an address. The error is ResourceExhausted.
func (p *Pool) Take(id string) (netip.Addr, error) {
	if len(p.used) >= p.Capacity() {
		return netip.Addr{}, spec.Errorf(errdefs.ErrResourceExhausted,
			"all %d addresses of subnet %s are in use; remove a pod or configure a larger subnet", p.Capacity(), p.prefix)
	}
	a := p.search()
	p.unrest(a)
	p.used[a] = id
	return a, nil
}

// search finds a free address. There is one.
func (p *Pool) search() netip.Addr {
	if len(p.used)+len(p.resting) >= p.Capacity() {
		return p.resting[0]
	}
	for o := p.next; ; o++ {
		if o > p.last {
			o = 1
		}
		a := p.at(o)
		if _, taken := p.used[a]; taken || a == p.gateway || slices.Contains(p.resting, a) {
			continue
		}
		p.next = o + 1
		return a
	}
}

func (p *Pool) unrest(a netip.Addr) {
	if i := slices.Index(p.resting, a); i >= 0 {
		p.resting = slices.Delete(p.resting, i, i+1)
	}
}

// Claim marks a recorded address as used. It moves the search behind it, so that a restart does not hand out at once
// what was given back just before.
func (p *Pool) Claim(a netip.Addr, id string) error {
	o, ok := p.offset(a)
	if !ok || o < 1 || o > p.last || a == p.gateway {
		return spec.Preconditionf("address %s is not one of subnet %s", a, p.prefix)
	}
	if other, taken := p.used[a]; taken && other != id {
		return spec.Errorf(errdefs.ErrAlreadyExists, "address %s is that of sandbox %s", a, other)
	}
	p.unrest(a)
	p.used[a] = id
	p.next = max(p.next, o+1)
	return nil
}

// Used is the number of addresses in use.
func (p *Pool) Used() int { return len(p.used) }

// Release gives an address back, if it is id's.
func (p *Pool) Release(a netip.Addr, id string) {
	if owner, ok := p.used[a]; !ok || owner != id {
		return
	}
	delete(p.used, a)
	p.resting = append(p.resting, a)
	if len(p.resting) > maxResting {
		p.resting = p.resting[1:]
	}
}

func (p *Pool) at(offset uint64) netip.Addr {
	if p.prefix.Addr().Is4() {
		b := p.prefix.Addr().As4()
		binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])|uint32(offset))
		return netip.AddrFrom4(b)
	}
	b := p.prefix.Addr().As16()
	binary.BigEndian.PutUint64(b[8:], binary.BigEndian.Uint64(b[8:])|offset)
	return netip.AddrFrom16(b)
}

// offset is at's inverse; ok is false outside the prefix and where the offset is beyond counting.
func (p *Pool) offset(a netip.Addr) (uint64, bool) {
	if !p.prefix.Contains(a) {
		return 0, false
	}
	if a.Is4() {
		x, y := a.As4(), p.prefix.Addr().As4()
		return uint64(binary.BigEndian.Uint32(x[:]) - binary.BigEndian.Uint32(y[:])), true
	}
	x, y := a.As16(), p.prefix.Addr().As16()
	o := binary.BigEndian.Uint64(x[8:]) - binary.BigEndian.Uint64(y[8:])
	same := binary.BigEndian.Uint64(x[:8]) == binary.BigEndian.Uint64(y[:8])
	return o, same && o < maxOffset
}
