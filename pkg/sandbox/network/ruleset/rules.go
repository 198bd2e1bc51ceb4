package ruleset

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/network/address"
)

// Config is what the rules depend on.
type Config struct {
	Table      string // of both families
	Bridge     string
	LinkPrefix string       // how the names of the pods' links begin
	V4, V6     netip.Prefix // the zero Prefix is none
}

func (c Config) subnet(f int) (p netip.Prefix, ok bool) {
	p = [2]netip.Prefix{c.V4, c.V6}[f]
	return p, p.IsValid()
}

// Pod is what the tables hold of a connected pod.
type Pod struct {
	ID    string
	Link  string // the host's end
	MAC   [6]byte
	Addrs []netip.Addr
	Ports []HostPort
}

func (p Pod) addr(v4 bool) (netip.Addr, bool) {
	for _, a := range p.Addrs {
		if a.Is4() == v4 {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// Ruleset is the plan of two tables of one name, in the families inet and bridge.
type Ruleset struct {
	Chains []*nftables.Chain
	Sets   []*nftables.Set
	Rules  []*nftables.Rule // in the order of evaluation, per chain

	inet, bridge    *nftables.Table
	portAny, portAt [2]*nftables.Set // host port maps; index 0 is IPv4, 1 is IPv6
	macs            *nftables.Set    // link, MAC: what a pod may send from
	sources         [2]*nftables.Set // link, address
}

// Elements are what pods add to the sets of a Ruleset.
type Elements map[*nftables.Set][]nftables.SetElement

// family is an index of a ruleset's pairs of sets.
func family(v4 bool) int {
	if v4 {
		return 0
	}
	return 1
}

var (
	typeAddr = [2]nftables.SetDatatype{nftables.TypeIPAddr, nftables.TypeIP6Addr}
	suffix   = [2]string{"4", "6"}
	nfproto  = [2]byte{unix.NFPROTO_IPV4, unix.NFPROTO_IPV6}
)

// New makes the plan.
func New(c Config) *Ruleset {
	r := &Ruleset{
		inet:   &nftables.Table{Family: nftables.TableFamilyINet, Name: c.Table},
		bridge: &nftables.Table{Family: nftables.TableFamilyBridge, Name: c.Table},
	}
	for f := range 2 {
		r.portAny[f] = r.set(r.inet, "host_ports_any"+suffix[f], []nftables.SetDatatype{nftables.TypeInetProto, nftables.TypeInetService}, typeAddr[f], nftables.TypeInetService)
		r.portAt[f] = r.set(r.inet, "host_ports_at"+suffix[f], []nftables.SetDatatype{typeAddr[f], nftables.TypeInetProto, nftables.TypeInetService}, typeAddr[f], nftables.TypeInetService)
		r.sources[f] = r.set(r.bridge, "sources"+suffix[f], []nftables.SetDatatype{nftables.TypeIFName, typeAddr[f]})
	}
	r.macs = r.set(r.bridge, "macs", []nftables.SetDatatype{nftables.TypeIFName, nftables.TypeEtherAddr})
	r.guard(c)
	r.hostPorts()
	r.postrouting(c)
	r.antiSpoof(c)
	return r
}

// set declares a set of concatenated keys, or with data a map.
func (r *Ruleset) set(t *nftables.Table, name string, key []nftables.SetDatatype, data ...nftables.SetDatatype) *nftables.Set {
	s := &nftables.Set{Table: t, Name: name, KeyType: nftables.MustConcatSetType(key...), Concatenation: true}
	if len(data) > 0 {
		s.IsMap, s.DataType = true, nftables.MustConcatSetType(data...)
	}
	r.Sets = append(r.Sets, s)
	return s
}

func (r *Ruleset) chain(t *nftables.Table, name string, typ nftables.ChainType, hook *nftables.ChainHook, prio nftables.ChainPriority) *nftables.Chain {
	c := &nftables.Chain{Table: t, Name: name}
	if hook != nil {
		c.Type, c.Hooknum, c.Priority = typ, hook, nftables.ChainPriorityRef(prio)
	}
	r.Chains = append(r.Chains, c)
	return c
}

func (r *Ruleset) rule(c *nftables.Chain, parts ...[]expr.Any) {
	var exprs []expr.Any
	for _, p := range parts {
		exprs = append(exprs, p...)
	}
	r.Rules = append(r.Rules, &nftables.Rule{Table: c.Table, Chain: c, Exprs: exprs})
}

// guard drops, before conntrack sees it, what the bridge's route_localnet would let through (CVE-2020-8558): a reply
// to a host port's client on 127.0.0.1 is still addressed to the bridge at that moment. It also drops sources outside
// the subnets, for kernels whose bridge family is missing.
func (r *Ruleset) guard(c Config) {
	ch := r.chain(r.inet, "guard", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, -300)
	loopback := netip.MustParsePrefix("127.0.0.0/8")
	r.rule(ch, iifname(c.Bridge), ipFamily(0), inPrefix(daddr, loopback, true), drop())
	r.rule(ch, iifname(c.Bridge), ipFamily(0), inPrefix(saddr, loopback, true), drop())
	for f := range 2 {
		s, ok := c.subnet(f)
		if !ok {
			r.rule(ch, iifname(c.Bridge), ipFamily(f), notMulticastControl(f), drop())
			continue
		}
		parts := [][]expr.Any{iifname(c.Bridge), ipFamily(f), inPrefix(saddr, s, false)}
		if f == 1 {
			parts = append(parts, inPrefix(saddr, netip.MustParsePrefix("fe80::/10"), false),
				inPrefix(saddr, netip.MustParsePrefix("::/128"), false))
		}
		r.rule(ch, append(parts, drop())...)
	}
}

// notMulticastControl spares what every link sends by itself in a family that has no subnet here: IPv6 from its
// link-local address or none.
func notMulticastControl(f int) []expr.Any {
	if f == 0 {
		return nil
	}
	return append(inPrefix(saddr, netip.MustParsePrefix("fe80::/10"), false),
		inPrefix(saddr, netip.MustParsePrefix("::/128"), false)...)
}

// hostPorts redirects packets to a local address by the maps, the more specific first.
func (r *Ruleset) hostPorts() {
	pre := r.chain(r.inet, "prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, -100)
	out := r.chain(r.inet, "output", nftables.ChainTypeNAT, nftables.ChainHookOutput, -100)
	ch := r.chain(r.inet, "host_ports", "", nil, 0)
	for _, from := range []*nftables.Chain{pre, out} {
		r.rule(from, toLocal(), jump(ch.Name))
	}
	// ::1 cannot be routed to a pod: refused at once is better than a packet that goes nowhere.
	r.rule(ch, ipFamily(1), inPrefix(daddr, netip.MustParsePrefix("::1/128"), true), ret())
	for f := range 2 {
		r.rule(ch, ipFamily(f), load(daddr.at(f), 8), protoPort(keyEnd(f)), lookupNAT(r.portAt[f], f))
		r.rule(ch, ipFamily(f), protoPort(8), lookupNAT(r.portAny[f], f))
	}
}

// postrouting masquerades three things: a client on the node's loopback, a pod that was redirected back onto the
// bridge (else its peer would answer it directly), and what leaves the subnets.
func (r *Ruleset) postrouting(c Config) {
	ch := r.chain(r.inet, "postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, 100)
	r.rule(ch, oifname(c.Bridge, true), ipFamily(0), inPrefix(saddr, netip.MustParsePrefix("127.0.0.0/8"), true), redirected(), masquerade())
	for f := range 2 {
		s, ok := c.subnet(f)
		if !ok {
			continue
		}
		multicast := netip.MustParsePrefix("224.0.0.0/4")
		if f == 1 {
			multicast = netip.MustParsePrefix("ff00::/8")
		}
		from := inPrefix(saddr, s, true)
		r.rule(ch, oifname(c.Bridge, true), ipFamily(f), from, redirected(), masquerade())
		r.rule(ch, oifname(c.Bridge, false), oifname("lo", false), ipFamily(f), from, inPrefix(daddr, multicast, false), masquerade())
	}
}

// antiSpoof is the bridge table: a pod's link carries only its own addresses, and no word of a router.
func (r *Ruleset) antiSpoof(c Config) {
	ch := r.chain(r.bridge, "from_pods", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, -300)
	r.rule(ch, prefixIIFName(c.LinkPrefix, false), accept())
	r.rule(ch, load(linkName, 8), load(etherSource, 12), lookup(r.macs, true), drop())
	r.rule(ch, etherType(unix.ETH_P_IP), load(linkName, 8), load(saddr.at(0), 12), lookup(r.sources[0], true), drop())
	r.rule(ch, etherType(unix.ETH_P_ARP), load(linkName, 8), load(arpSource, 12), lookup(r.sources[0], true), drop())
	ip6 := etherType(unix.ETH_P_IPV6)
	const advertise, redirect, neighbour = 134, 137, 136
	r.rule(ch, ip6, icmpv6(advertise), drop())
	r.rule(ch, ip6, icmpv6(redirect), drop())
	r.rule(ch, ip6, icmpv6(neighbour), load(linkName, 8), load(ndTarget, 12), lookup(r.sources[1], true), drop())
	r.rule(ch, ip6, inPrefix(saddr, netip.MustParsePrefix("::/128"), false), load(linkName, 8), load(saddr.at(1), 12), lookup(r.sources[1], true), drop())
	r.rule(ch, notEtherType(unix.ETH_P_IP), notEtherType(unix.ETH_P_ARP), notEtherType(unix.ETH_P_IPV6), drop())
}

// Elements returns what the pod adds. Each element carries the pod's id as its comment.
func (r *Ruleset) Elements(p Pod) Elements {
	out := Elements{}
	add := func(s *nftables.Set, val []byte, key ...[]byte) {
		out[s] = append(out[s], nftables.SetElement{Key: concat(key...), Val: val, Comment: p.ID})
	}
	link := padName(p.Link)
	add(r.macs, nil, link, p.MAC[:])
	add(r.sources[1], nil, link, address.LinkLocal(p.MAC).AsSlice())
	for _, a := range p.Addrs {
		add(r.sources[family(a.Is4())], nil, link, a.AsSlice())
	}
	for _, h := range p.Ports {
		to, ok := p.addr(h.V4)
		if !ok {
			continue
		}
		f, val := family(h.V4), concat(to.AsSlice(), portBytes(h.To))
		if h.Host.IsValid() {
			add(r.portAt[f], val, h.Host.AsSlice(), []byte{protoNumber(h.Proto)}, portBytes(h.Port))
		} else {
			add(r.portAny[f], val, []byte{protoNumber(h.Proto)}, portBytes(h.Port))
		}
	}
	return out
}
