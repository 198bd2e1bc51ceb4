package translate

import (
	"net/netip"
	"regexp"
	"strings"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Bounds of resolv.conf. resolv.conf(5) heeds three servers and six searches of old, 32 today; the kubelet cuts its
// lists before it sends them.
const (
	maxServers  = 16
	maxSearches = 64
	maxOptions  = 64
)

// hostLabel is a label of a hostname (RFC 1123, section 2.1), in either case.
var hostLabel = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$`)

// hostname may be empty: the CRI allows it in the node's network, and crictl's users leave it out elsewhere too.
func (c *check) hostname(field, s string) string {
	if s == "" {
		return ""
	}
	if len(s) > maxHostname {
		c.fail(field, "has %d bytes: at most %d are possible", len(s), maxHostname)
		return s
	}
	for label := range strings.SplitSeq(s, ".") {
		if !hostLabel.MatchString(label) {
			c.fail(field, "%s is not a hostname: letters, digits and inner '-', in parts separated by '.', are possible", shown(s))
		}
	}
	return s
}

// dns checks what is written into resolv.conf, word by word: a newline or a blank in one would be another line.
func (c *check) dns(field string, d *v1.DNSConfig) *spec.DNS {
	if d == nil {
		return nil
	}
	c.count(field+".servers", len(d.GetServers()), maxServers)
	c.count(field+".searches", len(d.GetSearches()), maxSearches)
	c.count(field+".options", len(d.GetOptions()), maxOptions)
	for i, s := range d.GetServers() {
		c.address(at(field+".servers", i), s)
	}
	for i, s := range d.GetSearches() {
		c.word(at(field+".searches", i), s)
	}
	for i, s := range d.GetOptions() {
		c.word(at(field+".options", i), s)
	}
	return &spec.DNS{Servers: d.GetServers(), Searches: d.GetSearches(), Options: d.GetOptions()}
}

func (c *check) word(field, s string) {
	switch {
	case s == "":
		c.fail(field, "is empty")
	case strings.ContainsAny(c.text(field, s, maxName+1), " \t#;"):
		c.fail(field, "%s is not one word", shown(s))
	}
}

func (c *check) address(field, s string) netip.Addr {
	a, err := netip.ParseAddr(s)
	if err != nil || len(s) > maxName || a.Zone() != "" {
		c.fail(field, "%s is not an IP address", shown(s))
	}
	return a
}

func (c *check) ports(field string, in []*v1.PortMapping) []spec.PortMapping {
	if !c.count(field, len(in), maxItems) {
		return nil
	}
	out := make([]spec.PortMapping, 0, len(in))
	seen := map[spec.PortMapping]int{}
	for i, p := range in {
		field := at(field, i)
		if p == nil {
			c.fail(field, "is missing")
		}
		m := spec.PortMapping{
			Protocol:      c.protocol(field+".protocol", p.GetProtocol()),
			HostPort:      uint16(c.within(field+".host_port", int64(p.GetHostPort()), 0, 65535)),
			ContainerPort: uint16(c.within(field+".container_port", int64(p.GetContainerPort()), 0, 65535)),
		}
		if p.GetHostIp() != "" {
			m.HostIP = c.address(field+".host_ip", p.GetHostIp()).Unmap().String()
		}
		if m.HostPort != 0 && m.ContainerPort == 0 {
			c.fail(field+".container_port", "is missing beside host_port %d", m.HostPort)
		}
		if m.HostPort != 0 {
			key := m
			key.ContainerPort = 0
			if first, twice := seen[key]; twice {
				c.fail(field, "publishes the host port of entry %d again", first)
			}
			seen[key] = i
		}
		out = append(out, m)
	}
	return out
}

func (c *check) protocol(field string, p v1.Protocol) spec.Protocol {
	switch p {
	case v1.Protocol_TCP:
		return spec.TCP
	case v1.Protocol_UDP:
		return spec.UDP
	case v1.Protocol_SCTP:
		return spec.SCTP
	}
	c.fail(field, "%d is not a protocol of the CRI", p)
	return ""
}
