package cni

import (
	"math"
	"net"
	"net/netip"
	"strings"

	"github.com/runtimed/runtimed/pkg/sandbox/network/cni/conf"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Annotations of a pod that act here. The first two are Kubernetes' own.
const (
	IngressAnnotation = "kubernetes.io/ingress-bandwidth"
	EgressAnnotation  = "kubernetes.io/egress-bandwidth"
	// AddressesAnnotation lists addresses, comma-separated, with or without a prefix length; MACAnnotation is a hardware
	// address. Config.PodAddresses permits them.
	AddressesAnnotation = "cni.runtimed/addresses"
	MACAnnotation       = "cni.runtimed/mac"
)

// maxAddresses is how many addresses a pod may name, or a plugin answer.
const maxAddresses = 32

// k8sArgs are CNI_ARGS as every runtime of Kubernetes gives them.
func k8sArgs(r spec.NetworkRequest) ([][2]string, error) {
	args := [][2]string{
		{"IgnoreUnknown", "1"},
		{"K8S_POD_NAMESPACE", r.Metadata.Namespace},
		{"K8S_POD_NAME", r.Metadata.Name},
		{"K8S_POD_INFRA_CONTAINER_ID", r.SandboxID},
		{"K8S_POD_UID", r.Metadata.UID},
	}
	for _, a := range args {
		if strings.ContainsAny(a[1], ";=") {
			return nil, spec.Invalidf("%s would be %q: a ';' or '=' in it would be taken for another argument by CNI plugins", a[0], a[1])
		}
	}
	return args, nil
}

// The forms of capability arguments (CNI CONVENTIONS.md).
type (
	portMapping struct {
		HostPort      uint16 `json:"hostPort"`
		ContainerPort uint16 `json:"containerPort"`
		Protocol      string `json:"protocol"`
		HostIP        string `json:"hostIP,omitempty"`
	}
	bandwidth struct {
		IngressRate  uint64 `json:"ingressRate,omitempty"` // bits per second
		IngressBurst uint64 `json:"ingressBurst,omitempty"`
		EgressRate   uint64 `json:"egressRate,omitempty"`
		EgressBurst  uint64 `json:"egressBurst,omitempty"`
	}
	dns struct {
		Servers  []string `json:"servers,omitempty"`
		Searches []string `json:"searches,omitempty"`
		Options  []string `json:"options,omitempty"`
	}
	ipRange struct {
		Subnet string `json:"subnet"`
	}
)

// capabilities are the arguments that a plugin of the network takes; unmet names wishes of the pod that none takes. An
// error is an InvalidArgument, or a FailedPrecondition where the node forbids it.
func capabilities(r spec.NetworkRequest, n *conf.Network, cidrs []netip.Prefix, podAddresses bool) (args map[string]any, unmet []string, err error) {
	wishes := map[string]any{}
	if ports := portMappings(r.Ports); len(ports) > 0 {
		wishes["portMappings"] = ports
	}
	b, err := bandwidthOf(r.Annotations)
	if err != nil {
		return nil, nil, err
	}
	if b != (bandwidth{}) {
		wishes["bandwidth"] = b
	}
	if err := addressWishes(r.Annotations, podAddresses, wishes); err != nil {
		return nil, nil, err
	}
	args = map[string]any{}
	for name, wish := range wishes {
		switch {
		case n.Can(name):
			args[name] = wish
		case name == "ips" || name == "mac": // nobody else gives a pod its address
			return nil, nil, spec.Preconditionf("network %s has no plugin that takes the address that the pod asks for (capability %s)", n.List.Name, name)
		default:
			unmet = append(unmet, name)
		}
	}
	// What the pod does not ask for by name is given where it is taken.
	if r.DNS != nil && n.Can("dns") {
		args["dns"] = dns{r.DNS.Servers, r.DNS.Searches, r.DNS.Options}
	}
	if len(cidrs) > 0 && n.Can("ipRanges") {
		args["ipRanges"] = ipRanges(cidrs)
	}
	const podAnnotations = "io.kubernetes.cri.pod-annotations"
	if n.Can(podAnnotations) {
		args[podAnnotations] = r.Annotations
	}
	return args, unmet, nil
}

func portMappings(ports []spec.PortMapping) []portMapping {
	var out []portMapping
	for _, p := range ports {
		if p.HostPort != 0 {
			out = append(out, portMapping{p.HostPort, p.ContainerPort, string(p.Protocol), p.HostIP})
		}
	}
	return out
}

func ipRanges(cidrs []netip.Prefix) [][]ipRange {
	var out [][]ipRange
	for _, c := range cidrs {
		out = append(out, []ipRange{{c.String()}})
	}
	return out
}

// bandwidthOf reads the two annotations as kubelets do: quantities of bits per second, 1k to 1P.
func bandwidthOf(annotations map[string]string) (bandwidth, error) {
	var b bandwidth
	for _, w := range []struct {
		key         string
		rate, burst *uint64
	}{{IngressAnnotation, &b.IngressRate, &b.IngressBurst}, {EgressAnnotation, &b.EgressRate, &b.EgressBurst}} {
		text, ok := annotations[w.key]
		if !ok {
			continue
		}
		rate, err := parseQuantity(text)
		if err != nil {
			return bandwidth{}, spec.Invalidf("annotation %s: %w", w.key, err)
		}
		if rate < 1e3 || rate > 1e15 {
			return bandwidth{}, spec.Invalidf("annotation %s: %q is out of range: 1k to 1P bits per second", w.key, text)
		}
		*w.rate, *w.burst = rate, math.MaxInt32 // the burst that every runtime gives: no limit of its own
	}
	return b, nil
}

func addressWishes(annotations map[string]string, permitted bool, wishes map[string]any) error {
	for _, key := range []string{AddressesAnnotation, MACAnnotation} {
		if _, ok := annotations[key]; ok && !permitted {
			return spec.Preconditionf("annotation %s: this node does not let pods choose their addresses (network.cni.pod_addresses)", key)
		}
	}
	if text, ok := annotations[AddressesAnnotation]; ok {
		ips, err := parseAddresses(text)
		if err != nil {
			return err
		}
		wishes["ips"] = ips
	}
	if text, ok := annotations[MACAnnotation]; ok {
		mac, err := net.ParseMAC(text)
		if err != nil || len(mac) != 6 || mac[0]&1 != 0 {
			return spec.Invalidf("annotation %s: %q is not the hardware address of one Ethernet link", MACAnnotation, text)
		}
		wishes["mac"] = mac.String()
	}
	return nil
}

func parseAddresses(text string) ([]string, error) {
	var ips []string
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		a, err := netip.ParseAddr(part)
		if err != nil {
			var p netip.Prefix
			p, err = netip.ParsePrefix(part)
			a = p.Addr()
		}
		if err != nil || !usable(a) || len(ips) == maxAddresses {
			return nil, spec.Invalidf("annotation %s: %q is not a list of at most %d addresses of links", AddressesAnnotation, text, maxAddresses)
		}
		ips = append(ips, part)
	}
	return ips, nil
}

// usable: an address that one link can have for its own.
func usable(a netip.Addr) bool {
	return a.IsValid() && a.Zone() == "" && !a.Is4In6() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() &&
		a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}
