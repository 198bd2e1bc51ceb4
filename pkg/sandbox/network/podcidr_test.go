package network

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
)

// TestPodCIDRsOfTheClusterChangeNothing, and are said where they are others.
func TestPodCIDRsOfTheClusterChangeNothing(t *testing.T) {
	subnets, err := ParseSubnets([]string{"10.1.0.0/16", "fd00:1::/64"})
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	n := &Network{cfg: Config{Subnets: subnets}, log: slog.New(slog.NewTextHandler(&said, nil))}
	for cidr, warns := range map[string]bool{"10.1.0.0/16": false, "fd00:1::/64": false, "10.244.1.0/24": true} {
		said.Reset()
		if err := n.UsePodCIDRs(t.Context(), []netip.Prefix{netip.MustParsePrefix(cidr)}); err != nil {
			t.Error(err)
		}
		if got := strings.Contains(said.String(), cidr); got != warns {
			t.Errorf("%s: %s", cidr, said.String())
		}
	}
}
