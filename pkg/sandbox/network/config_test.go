package network

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestConfigValidate(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		want   string // part of the error; "" is valid
	}{
		"default":           {func(c *Config) {}, ""},
		"IPv4 only":         {func(c *Config) { c.Subnets = c.Subnets[:1] }, ""},
		"IPv6 only":         {func(c *Config) { c.Subnets = c.Subnets[1:] }, ""},
		"IPv6 first":        {func(c *Config) { c.Subnets[0], c.Subnets[1] = c.Subnets[1], c.Subnets[0] }, ""},
		"15 characters":     {func(c *Config) { c.Bridge = "abcdefghijklmno" }, ""},
		"16 characters":     {func(c *Config) { c.Bridge = "abcdefghijklmnop" }, "bridge name"},
		"no bridge":         {func(c *Config) { c.Bridge = "" }, "bridge name"},
		"slash":             {func(c *Config) { c.Bridge = "a/b" }, "bridge name"},
		"dots":              {func(c *Config) { c.Bridge = ".." }, "bridge name"},
		"dash first":        {func(c *Config) { c.Bridge = "-a" }, "bridge name"},
		"space":             {func(c *Config) { c.Bridge = "a b" }, "bridge name"},
		"newline":           {func(c *Config) { c.Bridge = "a\n" }, "bridge name"},
		"NUL":               {func(c *Config) { c.Bridge = "a\x00" }, "bridge name"},
		"percent":           {func(c *Config) { c.Bridge = "br%d" }, "bridge name"},
		"loopback":          {func(c *Config) { c.Bridge = "lo" }, "taken by the kernel"},
		"sysctl word":       {func(c *Config) { c.Bridge = "all" }, "taken by the kernel"},
		"like a pod's link": {func(c *Config) { c.Bridge = "rtaaaaaaaaaaaaa" }, "pod's link"},
		"no table":          {func(c *Config) { c.Table = "" }, "table name"},
		"table with digit":  {func(c *Config) { c.Table = "1a" }, "table name"},
		"table with quote":  {func(c *Config) { c.Table = `a"b` }, "table name"},
		"long table":        {func(c *Config) { c.Table = strings.Repeat("a", 33) }, "table name"},
		"relative netns":    {func(c *Config) { c.NetnsDir = "run/netns" }, "clean absolute"},
		"unclean netns":     {func(c *Config) { c.NetnsDir = "/run/../netns" }, "clean absolute"},
		"no subnet":         {func(c *Config) { c.Subnets = nil }, "no subnet"},
		"zero subnet":       {func(c *Config) { c.Subnets = []Subnet{{}} }, "not a valid prefix"},
		"two of a family":   {subnets("10.1.0.0/16", "10.2.0.0/16"), "at most one of each"},
		"overlap":           {subnets("10.1.0.0/16", "10.1.2.0/24"), "overlap"},
		"same twice":        {subnets("fd00::/64", "fd00::/64"), "overlap"},
		"host bits":         {subnets("10.1.0.1/16"), "did you mean 10.1.0.0/16"},
		"too small, IPv4":   {subnets("10.1.0.0/31"), "prefix length of 8 to 30"},
		"too small, IPv6":   {subnets("fd00::/127"), "prefix length of 8 to 126"},
		"smallest":          {subnets("10.1.0.0/30", "fd00::/126"), ""},
		"too large":         {subnets("10.0.0.0/7"), "prefix length of 8 to 30"},
		"everything":        {subnets("::/0"), "not unicast"},
		"loopback subnet":   {subnets("127.0.0.0/8"), "not unicast"},
		"multicast":         {subnets("224.0.0.0/8"), "not unicast"},
		"link-local":        {subnets("169.254.0.0/16"), "not unicast"},
		"link-local IPv6":   {subnets("fe80::/64"), "not unicast"},
		"reserved":          {subnets("240.0.0.0/8"), "reserved"},
		"mapped":            {subnets("::ffff:10.0.0.0/112"), "in IPv6 form"},
		"gateway":           {gateway("10.88.255.254"), ""},
		"gateway outside":   {gateway("10.89.0.1"), "gateway 10.89.0.1"},
		"gateway is net":    {gateway("10.88.0.0"), "gateway"},
		"gateway is bcast":  {gateway("10.88.255.255"), "gateway"},
		"gateway's family":  {gateway("fd00:88::1"), "gateway"},
		"MTU":               {func(c *Config) { c.MTU = 9000 }, ""},
		"MTU low for IPv6":  {func(c *Config) { c.MTU = 1000 }, "1280 to 65535"},
		"MTU low, IPv4":     {func(c *Config) { c.MTU, c.Subnets = 1000, c.Subnets[:1] }, ""},
		"MTU too low":       {func(c *Config) { c.MTU, c.Subnets = 575, c.Subnets[:1] }, "576 to 65535"},
		"MTU too high":      {func(c *Config) { c.MTU = 65536 }, "MTU 65536"},
		"MTU negative":      {func(c *Config) { c.MTU = -1 }, "MTU -1"},
	} {
		cfg := config(t)
		c.change(&cfg)
		err := cfg.Validate()
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (!errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want it to say %q", name, err, c.want)
		}
		if err != nil {
			if _, nerr := New(cfg, Options{}); nerr == nil {
				t.Errorf("%s: New takes it", name)
			}
			if f := Check(t.Context(), cfg); len(f) != 1 || f[0].Why != err.Error() {
				t.Errorf("%s: Check finds %v", name, f)
			}
			if _, lerr := Leaks(t.Context(), cfg, nil); lerr == nil {
				t.Errorf("%s: Leaks takes it", name)
			}
		}
	}
}

func subnets(cidrs ...string) func(*Config) {
	return func(c *Config) {
		c.Subnets = nil
		for _, s := range cidrs {
			c.Subnets = append(c.Subnets, Subnet{Prefix: netip.MustParsePrefix(s)})
		}
	}
}

func gateway(s string) func(*Config) {
	return func(c *Config) { c.Subnets[0].Gateway = netip.MustParseAddr(s) }
}

func TestParseSubnets(t *testing.T) {
	got, err := ParseSubnets([]string{" 10.0.0.0/8", "fd00::/64"})
	if err != nil || len(got) != 2 || got[1].Router().String() != "fd00::1" {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "10.0.0.0", "10.0.0.0/33", "fe80::1%eth0/64", "x/8"} {
		if _, err := ParseSubnets([]string{bad}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestNamesAndAddresses(t *testing.T) {
	a, b := config(t), config(t)
	b.Bridge = "other0"
	id := newID()
	v := a.VethName(id)
	if len(v) != 15 || !ownVeth.MatchString(v) || v != a.VethName(id) || v == a.VethName(newID()) || v == b.VethName(id) {
		t.Errorf("link name %q", v)
	}
	if a.vethPrefix() == b.vethPrefix() {
		t.Error("two bridges have links with the same prefix")
	}
}
