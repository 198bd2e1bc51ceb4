package translate

import (
	"net/netip"
	"strings"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// maxCIDRs is how many subnets a node may have: a cluster gives one of each family.
const maxCIDRs = 8

// PodCIDRs reads the comma-separated subnets of a node, as kubelets write them; none is no error.
func PodCIDRs(r *v1.UpdateRuntimeConfigRequest) ([]netip.Prefix, error) {
	c := &check{}
	const field = "runtime_config.network_config.pod_cidr"
	text := r.GetRuntimeConfig().GetNetworkConfig().GetPodCidr()
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	parts := strings.Split(text, ",")
	if !c.count(field, len(parts), maxCIDRs) {
		return nil, c.err
	}
	var out []netip.Prefix
	for i, part := range parts {
		p, err := netip.ParsePrefix(strings.TrimSpace(part))
		if err != nil || p.Addr().Is4In6() || p.Bits() == 0 {
			c.fail(at(field, i), "%s is not a subnet in CIDR notation", shown(part))
			continue
		}
		out = append(out, p.Masked())
	}
	return out, c.err
}
