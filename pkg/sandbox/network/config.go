package network

import (
	"crypto/sha256"
	"encoding/base32"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/runtimed/runtimed/pkg/sandbox/network/address"
	"github.com/runtimed/runtimed/pkg/sandbox/network/ruleset"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Config says which names and addresses are this daemon's. All of it must differ from that of any other daemon in the
// same network namespace.
type Config struct {
	Bridge string // 1…15 characters, netdevice(7)
	// Subnets holds one subnet, or one of each family. The first is a pod's primary address.
	Subnets []Subnet
	Table   string // nftables table, families inet and bridge
	MTU     int    // 1280…65535 with IPv6, 576…65535 without; 0 takes that of the default route's link, else 1500
	// NetnsDir is where the pins are: the one of a request that names none is NetnsDir/<sandbox id>.
	NetnsDir string
}

// Subnet is a pool of pod addresses and the bridge's address in it.
type Subnet = address.Subnet

// ParseSubnets reads prefixes in CIDR notation, with the first address of each as the gateway. It checks form only;
// Config.Validate checks the rest.
func ParseSubnets(cidrs []string) ([]Subnet, error) { return address.Parse(cidrs) }

var (
	bridgeName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$`)
	tableName  = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,31}$`)
)

// Validate tells what is wrong with the configuration, as an InvalidArgument that names the key's value.
func (c Config) Validate() error {
	if !bridgeName.MatchString(c.Bridge) {
		return spec.Invalidf("bridge name %q: 1 to 15 letters, digits, '_', '.' or '-' are possible", c.Bridge)
	}
	switch c.Bridge {
	case "all", "default", "lo":
		return spec.Invalidf("bridge name %q is taken by the kernel; choose another", c.Bridge)
	}
	if ownVeth.MatchString(c.Bridge) {
		return spec.Invalidf("bridge name %q looks like the name of a pod's link; choose another", c.Bridge)
	}
	if !tableName.MatchString(c.Table) {
		return spec.Invalidf("nftables table name %q: a letter, then at most 31 letters, digits or '_' are possible", c.Table)
	}
	if c.NetnsDir != "" && (!filepath.IsAbs(c.NetnsDir) || filepath.Clean(c.NetnsDir) != c.NetnsDir) {
		return spec.Invalidf("network namespace directory %q is not a clean absolute path", c.NetnsDir)
	}
	if err := c.validateSubnets(); err != nil {
		return err
	}
	low := 576
	if c.hasIPv6() {
		low = 1280
	}
	if c.MTU != 0 && (c.MTU < low || c.MTU > 65535) {
		return spec.Invalidf("MTU %d is out of range: %d to 65535, or 0 for the uplink's", c.MTU, low)
	}
	return nil
}

func (c Config) validateSubnets() error {
	if len(c.Subnets) == 0 {
		return spec.Invalidf("no subnet is configured; name an IPv4 one, an IPv6 one or one of each")
	}
	var v4, v6 int
	for i, s := range c.Subnets {
		if err := s.Validate(); err != nil {
			return err
		}
		for _, o := range c.Subnets[:i] {
			if o.Prefix.Overlaps(s.Prefix) {
				return spec.Invalidf("subnets %s and %s overlap", o.Prefix, s.Prefix)
			}
		}
		if s.Prefix.Addr().Is4() {
			v4++
		} else {
			v6++
		}
	}
	if v4 > 1 || v6 > 1 {
		return spec.Invalidf("%d IPv4 and %d IPv6 subnets are configured; at most one of each is possible", v4, v6)
	}
	return nil
}

func (c Config) hasIPv6() bool { return c.subnet(false) != nil }

// subnet returns the subnet of the family, or nil.
func (c Config) subnet(v4 bool) *Subnet {
	for i, s := range c.Subnets {
		if s.Prefix.Addr().Is4() == v4 {
			return &c.Subnets[i]
		}
	}
	return nil
}

// ownVeth is the form of every host link's name: "rt", three characters from the bridge's name, ten from the
// sandbox's id. A daemon so knows its links even when they lost their bridge, and the id is enough to find one.
var ownVeth = regexp.MustCompile(`^rt[a-z2-7]{13}$`)

func (c Config) vethPrefix() string { return "rt" + hashName(c.Bridge, 3) }

// VethName is the name of the host's end of the sandbox's link: 15 characters, all that IFNAMSIZ allows.
func (c Config) VethName(sandboxID string) string { return c.vethPrefix() + hashName(sandboxID, 10) }

func hashName(s string, n int) string {
	h := sha256.Sum256([]byte(s))
	return strings.ToLower(base32.StdEncoding.EncodeToString(h[:]))[:n]
}

// rules is what the tables depend on.
func (c Config) rules() ruleset.Config {
	r := ruleset.Config{Table: c.Table, Bridge: c.Bridge, LinkPrefix: c.vethPrefix()}
	if s := c.subnet(true); s != nil {
		r.V4 = s.Prefix
	}
	if s := c.subnet(false); s != nil {
		r.V6 = s.Prefix
	}
	return r
}
