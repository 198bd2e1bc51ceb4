package ruleset

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// The words that rules.go is written in. Registers are numbered from 8 (NFT_REG32_00), four bytes each; a
// concatenation lies in consecutive ones, every part padded to four bytes.

// field is something that a rule can load: bytes of a header or a property of the packet.
type field struct {
	base   expr.PayloadBase
	offset [2]uint32 // by family
	size   [2]uint32
	meta   expr.MetaKey // used where size is 0
}

var (
	saddr       = field{base: expr.PayloadBaseNetworkHeader, offset: [2]uint32{12, 8}, size: [2]uint32{4, 16}}
	daddr       = field{base: expr.PayloadBaseNetworkHeader, offset: [2]uint32{16, 24}, size: [2]uint32{4, 16}}
	etherSource = field{base: expr.PayloadBaseLLHeader, offset: [2]uint32{6}, size: [2]uint32{6}}
	arpSource   = field{base: expr.PayloadBaseNetworkHeader, offset: [2]uint32{14}, size: [2]uint32{4}} // RFC 826, ar$spa for Ethernet and IPv4
	ndTarget    = field{base: expr.PayloadBaseTransportHeader, offset: [2]uint32{8}, size: [2]uint32{16}}
	linkName    = field{meta: expr.MetaKeyIIFNAME}
)

// at selects the family of a field whose place depends on it.
func (f field) at(fam int) field {
	f.offset[0], f.size[0] = f.offset[fam], f.size[fam]
	return f
}

func load(f field, reg uint32) []expr.Any {
	if f.size[0] == 0 {
		return []expr.Any{&expr.Meta{Key: f.meta, Register: reg}}
	}
	return []expr.Any{&expr.Payload{DestRegister: reg, Base: f.base, Offset: f.offset[0], Len: f.size[0]}}
}

func compare(reg uint32, equal bool, data []byte) expr.Any {
	op := expr.CmpOpEq
	if !equal {
		op = expr.CmpOpNeq
	}
	return &expr.Cmp{Op: op, Register: reg, Data: data}
}

func metaIs(k expr.MetaKey, equal bool, data []byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: k, Register: 1}, compare(1, equal, data)}
}

func padName(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

func iifname(name string) []expr.Any { return metaIs(expr.MetaKeyIIFNAME, true, padName(name)) }

func oifname(name string, equal bool) []expr.Any {
	return metaIs(expr.MetaKeyOIFNAME, equal, padName(name))
}

// prefixIIFName compares the beginning of the name only.
func prefixIIFName(prefix string, equal bool) []expr.Any {
	return metaIs(expr.MetaKeyIIFNAME, equal, []byte(prefix))
}

func ipFamily(f int) []expr.Any { return metaIs(expr.MetaKeyNFPROTO, true, []byte{nfproto[f]}) }

func etherType(t uint16) []expr.Any {
	return metaIs(expr.MetaKeyPROTOCOL, true, binary.BigEndian.AppendUint16(nil, t))
}

func notEtherType(t uint16) []expr.Any {
	return metaIs(expr.MetaKeyPROTOCOL, false, binary.BigEndian.AppendUint16(nil, t))
}

func icmpv6(typ byte) []expr.Any {
	return append(metaIs(expr.MetaKeyL4PROTO, true, []byte{unix.IPPROTO_ICMPV6}),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1}, compare(1, true, []byte{typ}))
}

// inPrefix tests an address of the prefix's family.
func inPrefix(f field, p netip.Prefix, equal bool) []expr.Any {
	fam := family(p.Addr().Is4())
	n := f.size[fam]
	mask := make([]byte, n)
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: f.base, Offset: f.offset[fam], Len: n},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: n, Mask: mask, Xor: make([]byte, n)},
		compare(1, equal, p.Masked().Addr().AsSlice()),
	}
}

// toLocal: the destination is an address of the node.
func toLocal() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagDADDR: true},
		compare(1, true, binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)),
	}
}

// redirected: conntrack changed the destination (IPS_DST_NAT).
func redirected() []expr.Any {
	const dstNAT = 1 << 5
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATUS, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(dstNAT), Xor: make([]byte, 4)},
		compare(1, false, make([]byte, 4)),
	}
}

// keyEnd is the register behind an address that was loaded to register 8.
func keyEnd(fam int) uint32 { return 8 + daddr.size[fam]/4 }

func protoPort(reg uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg},
		&expr.Payload{DestRegister: reg + 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	}
}

func lookup(s *nftables.Set, invert bool) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: 8, SetName: s.Name, Invert: invert}}
}

// lookupNAT redirects to the map's address and port.
func lookupNAT(s *nftables.Set, fam int) []expr.Any {
	return []expr.Any{
		&expr.Lookup{SourceRegister: 8, DestRegister: 8, IsDestRegSet: true, SetName: s.Name},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(nfproto[fam]), RegAddrMin: 8, RegProtoMin: keyEnd(fam), Specified: true},
	}
}

func verdict(k expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: k}} }
func drop() []expr.Any                      { return verdict(expr.VerdictDrop) }
func accept() []expr.Any                    { return verdict(expr.VerdictAccept) }
func ret() []expr.Any                       { return verdict(expr.VerdictReturn) }

func jump(chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: chain}}
}

// masquerade draws source ports at random: sequential search loses packets when many connections start at once.
func masquerade() []expr.Any { return []expr.Any{&expr.Masq{FullyRandom: true}} }

func concat(parts ...[]byte) []byte {
	var b []byte
	for _, p := range parts {
		b = append(b, p...)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
	}
	return b
}

func portBytes(p uint16) []byte { return binary.BigEndian.AppendUint16(nil, p) }

func protoNumber(p spec.Protocol) byte {
	switch p {
	case spec.TCP:
		return unix.IPPROTO_TCP
	case spec.UDP:
		return unix.IPPROTO_UDP
	default:
		return unix.IPPROTO_SCTP
	}
}
