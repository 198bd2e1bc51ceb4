package cni

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// addresses are what a result says of the pod's interface, the primary first. A result that cannot be true is an error:
// no address, too many, one that no link can have, one twice, an interface that the result does not have.
func addresses(r types.Result, ifname string) ([]spec.Address, error) {
	if r == nil {
		return nil, fmt.Errorf("the plugins answered nothing")
	}
	full, err := types100.NewResultFromResult(r)
	if err != nil {
		return nil, fmt.Errorf("the plugins' answer: %w", err)
	}
	var out []spec.Address
	seen := map[string]bool{}
	for i, ip := range full.IPs {
		if ip == nil {
			return nil, fmt.Errorf("address %d of the plugins' answer is empty", i)
		}
		mine, err := isPods(full, ip, ifname)
		if err != nil {
			return nil, fmt.Errorf("address %d of the plugins' answer %w", i, err)
		}
		if !mine {
			continue
		}
		a, err := address(ip)
		switch {
		case err != nil:
			return nil, fmt.Errorf("address %d of the plugins' answer %w", i, err)
		case seen[a.IP]:
			return nil, fmt.Errorf("the plugins' answer has address %s twice", a.IP)
		case len(out) == maxAddresses:
			return nil, fmt.Errorf("the plugins' answer has more than %d addresses", maxAddresses)
		}
		seen[a.IP] = true
		out = append(out, a)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("the plugins' answer has no address for %s", ifname)
	}
	return out, nil
}

// isPods tells whether the address is on the pod's interface; results of old versions do not name one.
func isPods(r *types100.Result, ip *types100.IPConfig, ifname string) (bool, error) {
	if ip.Interface == nil {
		return true, nil
	}
	i := *ip.Interface
	if i < 0 || i >= len(r.Interfaces) || r.Interfaces[i] == nil {
		return false, fmt.Errorf("is on interface %d, of %d", i, len(r.Interfaces))
	}
	return r.Interfaces[i].Name == ifname && (r.Interfaces[i].Sandbox != "" || !inSandbox(r, ifname)), nil
}

// inSandbox tells whether the answer has the interface in a sandbox: then one of that name without is the node's. Some
// plugins leave the sandbox out.
func inSandbox(r *types100.Result, ifname string) bool {
	return slices.ContainsFunc(r.Interfaces, func(i *types100.Interface) bool { return i != nil && i.Name == ifname && i.Sandbox != "" })
}

func address(ip *types100.IPConfig) (spec.Address, error) {
	a, ok := netip.AddrFromSlice(ip.Address.IP)
	a = a.Unmap()
	ones, bits := ip.Address.Mask.Size()
	if bits == 128 && a.Is4() { // an IPv4 mask in the form of IPv6
		ones, bits = ones-96, 32
	}
	if !ok || !usable(a) || bits != a.BitLen() || ones < 1 {
		return spec.Address{}, fmt.Errorf("is %q, which no link can have", ip.Address.String())
	}
	out := spec.Address{IP: a.String(), Prefix: ones}
	if ip.Gateway != nil {
		g, ok := netip.AddrFromSlice(ip.Gateway)
		if g = g.Unmap(); !ok || !usable(g) || g.BitLen() != a.BitLen() {
			return spec.Address{}, fmt.Errorf("has the gateway %q, which no link can have", ip.Gateway.String())
		}
		out.Gateway = g.String()
	}
	return out, nil
}
