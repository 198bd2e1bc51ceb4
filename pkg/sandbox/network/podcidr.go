package network

import (
	"context"
	"net/netip"
	"slices"
)

// UsePodCIDRs changes nothing: the subnets are the configuration's, and pods have addresses of them. It is said in the
// log when the cluster gave this node others, which the cluster then routes here in vain.
func (n *Network) UsePodCIDRs(_ context.Context, cidrs []netip.Prefix) error {
	for _, c := range cidrs {
		if !slices.ContainsFunc(n.cfg.Subnets, func(s Subnet) bool { return s.Prefix == c }) {
			n.log.Warn("the cluster gave this node a subnet that is none of the built-in network's: set network.subnet or network.subnet6 to it", "subnet", c)
		}
	}
	return nil
}
