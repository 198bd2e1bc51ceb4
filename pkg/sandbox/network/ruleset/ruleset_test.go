package ruleset

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/nftables"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func m(proto spec.Protocol, ip string, host, container uint16) spec.PortMapping {
	return spec.PortMapping{Protocol: proto, HostIP: ip, HostPort: host, ContainerPort: container}
}

func TestResolvePorts(t *testing.T) {
	for name, c := range map[string]struct {
		in   []spec.PortMapping
		v4   bool
		v6   bool
		want string // the ports, or "error: " and a part of it
	}{
		"none":             {nil, true, true, "[]"},
		"not published":    {[]spec.PortMapping{m("tcp", "", 0, 80), m("", "?", 0, 0)}, true, true, "[]"},
		"both families":    {[]spec.PortMapping{m("tcp", "", 1, 80)}, true, true, "[1/tcp 1/tcp]"},
		"one family":       {[]spec.PortMapping{m("tcp", "", 1, 80)}, true, false, "[1/tcp]"},
		"all of IPv4":      {[]spec.PortMapping{m("udp", "0.0.0.0", 1, 80)}, true, true, "[1/udp]"},
		"all of IPv6":      {[]spec.PortMapping{m("udp", "::", 1, 80)}, true, true, "[1/udp]"},
		"one address":      {[]spec.PortMapping{m("tcp", "192.0.2.1", 1, 80)}, true, true, "[1/tcp on 192.0.2.1]"},
		"mapped address":   {[]spec.PortMapping{m("tcp", "::ffff:192.0.2.1", 1, 80)}, true, true, "[1/tcp on 192.0.2.1]"},
		"same twice":       {[]spec.PortMapping{m("tcp", "", 1, 80), m("tcp", "", 1, 80)}, true, false, "[1/tcp]"},
		"overlap, same to": {[]spec.PortMapping{m("tcp", "", 1, 80), m("tcp", "127.0.0.1", 1, 80)}, true, false, "[1/tcp 1/tcp on 127.0.0.1]"},
		"two addresses":    {[]spec.PortMapping{m("tcp", "127.0.0.1", 1, 80), m("tcp", "127.0.0.2", 1, 81)}, true, false, "[1/tcp on 127.0.0.1 1/tcp on 127.0.0.2]"},
		"two protocols":    {[]spec.PortMapping{m("tcp", "", 1, 80), m("udp", "", 1, 81)}, true, false, "[1/tcp 1/udp]"},
		"mapped twice":     {[]spec.PortMapping{m("tcp", "", 1, 80), m("tcp", "", 1, 81)}, true, true, "error: mapped twice, to ports 80 and 81"},
		"protocol":         {[]spec.PortMapping{m("icmp", "", 1, 80)}, true, true, `error: protocol "icmp"`},
		"no container":     {[]spec.PortMapping{m("tcp", "", 1, 0)}, true, true, "error: no container port"},
		"not an IP":        {[]spec.PortMapping{m("tcp", "a\nb", 1, 80)}, true, true, `error: "a\nb"`},
		"zone":             {[]spec.PortMapping{m("tcp", "fe80::1%eth0", 1, 80)}, true, true, "error: not an IP address"},
		"wrong family":     {[]spec.PortMapping{m("tcp", "::", 1, 80)}, true, false, "error: family"},
		"IPv6 loopback":    {[]spec.PortMapping{m("tcp", "::1", 1, 80)}, true, true, "error: ::1"},
		"multicast":        {[]spec.PortMapping{m("tcp", "224.0.0.1", 1, 80)}, true, true, "error: multicast"},
	} {
		got, err := ResolvePorts(c.in, c.v4, c.v6)
		want, isError := strings.CutPrefix(c.want, "error: ")
		switch {
		case isError && (!errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want it to say %q", name, err, want)
		case !isError && (err != nil || fmt.Sprint(got) != want):
			t.Errorf("%s: %v, %v, want %s", name, got, err, want)
		}
	}
}

func TestElements(t *testing.T) {
	r := New(Config{Table: "t", Bridge: "br", LinkPrefix: "rt", V4: netip.MustParsePrefix("10.88.0.0/16"), V6: netip.MustParsePrefix("fd00:88::/64")})
	p := Pod{ID: "some id", Link: "rt1", MAC: [6]byte{2}, Addrs: []netip.Addr{netip.MustParseAddr("10.88.0.2"), netip.MustParseAddr("fd00:88::2")}}
	var err error
	p.Ports, err = ResolvePorts([]spec.PortMapping{m("tcp", "", 0x1f90, 80), m("udp", "127.0.0.1", 53, 5353)}, true, true)
	if err != nil {
		t.Fatal(err)
	}
	got := r.Elements(p)
	want := map[*nftables.Set][2]string{
		r.portAny[0]: {"06000000" + "1f900000", "0a580002" + "00500000"},
		r.portAny[1]: {"06000000" + "1f900000", "fd000088000000000000000000000002" + "00500000"},
		r.portAt[0]:  {"7f000001" + "11000000" + "00350000", "0a580002" + "14e90000"},
	}
	for s, w := range want {
		if es := got[s]; len(es) != 1 || fmt.Sprintf("%x", es[0].Key) != w[0] || fmt.Sprintf("%x", es[0].Val) != w[1] || es[0].Comment != p.ID {
			t.Errorf("%s: %+v", s.Name, es)
		}
	}
	if len(got[r.portAt[1]]) != 0 || len(got[r.macs]) != 1 || len(got[r.sources[0]]) != 1 || len(got[r.sources[1]]) != 2 {
		t.Errorf("elements: %v", got)
	}
	for s, es := range got {
		for _, e := range es {
			if len(e.Key) != int(s.KeyType.Bytes) || s.IsMap && len(e.Val) != int(s.DataType.Bytes) {
				t.Errorf("%s: a key of %d and a value of %d bytes", s.Name, len(e.Key), len(e.Val))
			}
		}
	}
}

// Without a subnet of its family, a rule about one would let everything through or nothing.
func TestRulesOfOneFamily(t *testing.T) {
	both := New(Config{Table: "t", Bridge: "br", LinkPrefix: "rt", V4: netip.MustParsePrefix("10.88.0.0/16"), V6: netip.MustParsePrefix("fd00:88::/64")})
	for _, c := range []Config{{V4: netip.MustParsePrefix("10.88.0.0/16")}, {V6: netip.MustParsePrefix("fd00:88::/64")}} {
		c.Table, c.Bridge, c.LinkPrefix = "t", "br", "rt"
		r := New(c)
		for i, ch := range r.Chains {
			want := both.Counts()[both.Chains[i]]
			if ch.Name == "postrouting" {
				want -= 2
			}
			if got := r.Counts()[ch]; got != want {
				t.Errorf("chain %s has %d rules, want %d", ch.Name, got, want)
			}
		}
	}
}

// FuzzResolvePorts takes what a client may send: the answer is ports that fit the maps, or an InvalidArgument.
func FuzzResolvePorts(f *testing.F) {
	f.Add("tcp", "", uint16(80), uint16(80), "udp", "127.0.0.1", uint16(80), uint16(81), true, true)
	f.Add("tcp", "::", uint16(1), uint16(2), "tcp", "fd00::1", uint16(1), uint16(3), true, false)
	f.Add("sctp", "::ffff:1.2.3.4", uint16(1), uint16(2), "", "fe80::1%x", uint16(0), uint16(0), false, true)
	f.Fuzz(func(t *testing.T, proto1, ip1 string, host1, to1 uint16, proto2, ip2 string, host2, to2 uint16, v4, v6 bool) {
		got, err := ResolvePorts([]spec.PortMapping{m(spec.Protocol(proto1), ip1, host1, to1), m(spec.Protocol(proto2), ip2, host2, to2)}, v4, v6)
		if err != nil && (!errdefs.IsInvalidArgument(err) || got != nil) {
			t.Fatalf("%v, %v", got, err)
		}
		for i, p := range got {
			if p.Port == 0 || p.To == 0 || p.V4 && !v4 || !p.V4 && !v6 || p.Host.IsValid() && p.Host.Is4() != p.V4 {
				t.Errorf("%+v must not come out", p)
			}
			for _, o := range got[:i] {
				if p.Overlaps(o) && p.To != o.To {
					t.Errorf("%s leads to two ports", p)
				}
			}
		}
	})
}
