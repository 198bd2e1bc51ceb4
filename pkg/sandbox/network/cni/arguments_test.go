package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/pkg/types/create"

	"github.com/runtimed/runtimed/pkg/sandbox/network/cni/conf"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func network(t testing.TB, capabilities ...string) *conf.Network {
	caps := map[string]bool{}
	for _, c := range capabilities {
		caps[c] = true
	}
	b, _ := json.Marshal(map[string]any{"name": "n", "cniVersion": "1.0.0", "loadOnlyInlinedPlugins": true,
		"plugins": []any{map[string]any{"type": "first"}, map[string]any{"type": "p", "capabilities": caps}}})
	n, err := conf.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestCapabilities(t *testing.T) {
	all := []string{"portMappings", "bandwidth", "ips", "mac", "dns", "ipRanges", "io.kubernetes.cri.pod-annotations"}
	port := []spec.PortMapping{{Protocol: spec.TCP, HostPort: 1, ContainerPort: 2}}
	cidr := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}
	for name, c := range map[string]struct {
		request spec.NetworkRequest
		cidrs   []netip.Prefix
		can     []string
		args    string
		unmet   string
	}{
		"nothing":                   {can: all, args: `{"io.kubernetes.cri.pod-annotations":null}`, unmet: "[]"},
		"a port":                    {request: spec.NetworkRequest{Ports: port}, can: []string{"portMappings"}, args: `{"portMappings":[{"hostPort":1,"containerPort":2,"protocol":"tcp"}]}`, unmet: "[]"},
		"a port that nobody takes":  {request: spec.NetworkRequest{Ports: port}, can: []string{"dns"}, args: `{}`, unmet: "[portMappings]"},
		"a port of the pod alone":   {request: spec.NetworkRequest{Ports: []spec.PortMapping{{ContainerPort: 2}}}, args: `{}`, unmet: "[]"},
		"one way":                   {request: spec.NetworkRequest{Annotations: map[string]string{EgressAnnotation: "1Mi"}}, can: []string{"bandwidth"}, args: `{"bandwidth":{"egressRate":1048576,"egressBurst":2147483647}}`, unmet: "[]"},
		"subnets":                   {cidrs: cidr, can: []string{"ipRanges"}, args: `{"ipRanges":[[{"subnet":"10.0.0.0/24"}]]}`, unmet: "[]"},
		"subnets that nobody takes": {cidrs: cidr, args: `{}`, unmet: "[]"},
		"resolvers":                 {request: spec.NetworkRequest{DNS: &spec.DNS{Servers: []string{"1.2.3.4"}}}, can: []string{"dns"}, args: `{"dns":{"servers":["1.2.3.4"]}}`, unmet: "[]"},
	} {
		args, unmet, err := capabilities(c.request, network(t, c.can...), c.cidrs, false)
		b, _ := json.Marshal(args)
		if err != nil || string(b) != c.args || fmt.Sprint(unmet) != c.unmet {
			t.Errorf("%s: %s, unmet %v, %v; want %s, %s", name, b, unmet, err, c.args, c.unmet)
		}
	}
}

func TestAddressThatNobodyGives(t *testing.T) {
	for key, text := range map[string]string{AddressesAnnotation: "10.0.0.2", MACAnnotation: "02:00:00:00:00:02"} {
		_, _, err := capabilities(spec.NetworkRequest{Annotations: map[string]string{key: text}}, network(t, "dns"), nil, true)
		if !errors.Is(err, errdefs.ErrFailedPrecondition) {
			t.Errorf("%s: %v", key, err)
		}
	}
}

func TestBadAnnotations(t *testing.T) {
	for key, texts := range map[string][]string{
		IngressAnnotation:   {"", "ten", "10", "-10M", "2P", "1e30", "10MB"},
		EgressAnnotation:    {" 10M", "999"},
		AddressesAnnotation: {"", "10.0.0.1,", "10.0.0.1/33", "0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "::", "fe80::1%eth0", "::ffff:10.0.0.1", strings.Repeat("10.0.0.1,", 40)},
		MACAnnotation:       {"", "02:00", "01:00:00:00:00:01", "02:00:00:00:00:00:00:01"},
	} {
		for _, text := range texts {
			_, _, err := capabilities(spec.NetworkRequest{Annotations: map[string]string{key: text}}, network(t), nil, true)
			if !errors.Is(err, errdefs.ErrInvalidArgument) || !strings.Contains(fmt.Sprint(err), key) {
				t.Errorf("%s = %q: %v", key, text, err)
			}
		}
	}
}

func TestArgumentsAreOneWordEach(t *testing.T) {
	for _, m := range []spec.Metadata{{Name: "a;b"}, {Namespace: "a=b"}, {UID: ";"}} {
		if _, err := k8sArgs(spec.NetworkRequest{SandboxID: "s", Metadata: m}); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%+v: %v", m, err)
		}
	}
}

var quantities = map[string]string{
	"10M": "10000000", "1.5k": "1500", "1Ki": "1024", "1.5Gi": "1610612736", "2e6": "2000000", "2E6": "2000000", "1E": "1000000000000000000", "1Ei": "1152921504606846976",
	"100m": "1", "1500m": "2", "0": "0", "+5": "5", ".5k": "500", "5.": "5", "1e-3": "1", "1n": "1",
	"": "bad", "k": "bad", "1K": "bad", "1kk": "bad", "1 k": "bad", "1_0": "bad", "0x10": "bad", "1/2": "bad", "-1": "bad", "1e": "bad", "e1": "bad", "1e99": "bad", "20E": "bad", "1e1k": "bad", "Inf": "bad",
	strings.Repeat("1", 50): "bad", "1eE": "bad", "1iM": "bad",
}

func TestQuantities(t *testing.T) {
	for text, want := range quantities {
		got := "bad"
		if q, err := parseQuantity(text); err == nil {
			got = fmt.Sprint(q)
		}
		if got != want {
			t.Errorf("%q is %s, want %s", text, got, want)
		}
	}
}

func FuzzQuantity(f *testing.F) {
	for text := range quantities {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		q, err := parseQuantity(text)
		if err == nil && (strings.ContainsAny(text, "- _/") && !strings.ContainsAny(text, "eE") || len(text) > 40 || q > math.MaxUint64-1 && text == "") {
			t.Errorf("%q is %d", text, q)
		}
	})
}

// answers are results of plugins, and the addresses that they are believed for.
var answers = map[string]string{
	`{"cniVersion":"1.1.0","interfaces":[{"name":"cni0"},{"name":"eth0","sandbox":"/n"}],"ips":[{"interface":1,"address":"10.0.0.2/24","gateway":"10.0.0.1"},{"interface":1,"address":"fd00::2/64"}]}`: "[{10.0.0.2 24 10.0.0.1} {fd00::2 64 }]",
	`{"cniVersion":"1.0.0","interfaces":[{"name":"net1","sandbox":"/n"},{"name":"eth0","sandbox":"/n"}],"ips":[{"interface":0,"address":"10.0.0.3/24"},{"interface":1,"address":"10.0.0.2/24"}]}`:      "[{10.0.0.2 24 }]",
	`{"cniVersion":"1.0.0","interfaces":[{"name":"eth0"}],"ips":[{"interface":0,"address":"10.0.0.2/24"}]}`:                                                                                            "[{10.0.0.2 24 }]",
	`{"cniVersion":"1.0.0","interfaces":[{"name":"eth0"},{"name":"eth0","sandbox":"/n"}],"ips":[{"interface":0,"address":"10.0.0.3/24"},{"interface":1,"address":"10.0.0.2/24"}]}`:                     "[{10.0.0.2 24 }]",
	`{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.0.0.2/32"}]}`:                                                                                                                           "[{10.0.0.2 32 }]",
	`{"cniVersion":"0.2.0","ip4":{"ip":"10.0.0.2/24"},"ip6":{"ip":"fd00::2/64"}}`:                                                                                                                      "[{10.0.0.2 24 } {fd00::2 64 }]",
	`{"cniVersion":"1.0.0"}`:                                                                                           "error",
	`{"cniVersion":"1.0.0","ips":[null]}`:                                                                              "error",
	`{"cniVersion":"1.0.0","ips":[{}]}`:                                                                                "error",
	`{"cniVersion":"1.0.0","ips":[{"interface":-1,"address":"10.0.0.2/24"}]}`:                                          "error",
	`{"cniVersion":"1.0.0","ips":[{"address":"0.0.0.0/24"}]}`:                                                          "error",
	`{"cniVersion":"1.0.0","ips":[{"address":"::/64"}]}`:                                                               "error",
	`{"cniVersion":"1.0.0","ips":[{"address":"255.255.255.255/32"}]}`:                                                  "error",
	`{"cniVersion":"1.0.0","ips":[{"address":"224.0.0.1/24"}]}`:                                                        "error",
	`{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.2/0"}]}`:                                                          "error",
	`{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.2/24","gateway":"::2"}]}`:                                         "error",
	`{"cniVersion":"1.0.0","interfaces":[null],"ips":[{"interface":0,"address":"10.0.0.2/24"}]}`:                       "error",
	`{"cniVersion":"1.0.0","ips":[` + strings.Repeat(`{"address":"10.0.0.2/24"},`, 40) + `{"address":"10.0.0.3/24"}]}`: "error",
}

func believed(text string) string {
	r, err := create.CreateFromBytes([]byte(text))
	if err != nil {
		return "error"
	}
	list, err := addresses(r, "eth0")
	if err != nil {
		return "error"
	}
	return fmt.Sprint(list)
}

func TestAnswers(t *testing.T) {
	for text, want := range answers {
		if got := believed(text); got != want {
			t.Errorf("%s is %s, want %s", text, got, want)
		}
	}
	if _, err := addresses(nil, "eth0"); err == nil {
		t.Error("no answer is believed")
	}
}

// FuzzAnswer: whatever a plugin writes, what is believed is a list of addresses that links can have, each once.
func FuzzAnswer(f *testing.F) {
	for text := range answers {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := create.CreateFromBytes([]byte(text))
		if err != nil {
			return
		}
		list, err := addresses(r, "eth0")
		if err != nil {
			return
		}
		var seen []string
		for _, a := range list {
			ip, err := netip.ParseAddr(a.IP)
			if err != nil || ip.IsUnspecified() || ip.IsMulticast() || ip.IsLoopback() || a.Prefix < 1 || a.Prefix > ip.BitLen() || slices.Contains(seen, a.IP) {
				t.Errorf("%s is believed for %+v", text, a)
			}
			seen = append(seen, a.IP)
		}
		if len(list) == 0 || len(list) > maxAddresses {
			t.Errorf("%s is believed for %d addresses", text, len(list))
		}
	})
}

// FuzzAttachment: no file makes the reader panic, and what it believes can be given to libcni.
func FuzzAttachment(f *testing.F) {
	good, _ := json.Marshal(attachment{Version: 1, SandboxID: "a", IfName: "eth0", Config: network(f).List.Bytes})
	f.Add(good)
	f.Add([]byte(`{"Version":1}`))
	f.Add([]byte(`{"Version":1,"SandboxID":"../x","IfName":"eth0","Config":{}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parseAttachment(b)
		if err != nil {
			return
		}
		if n, err := conf.Parse(a.Config); err != nil || len(n.List.Plugins) == 0 || strings.ContainsAny(a.SandboxID, "/") {
			t.Errorf("%s is believed: %v", b, err)
		}
	})
}

// FuzzTemplate: what a template makes is a configuration or an error.
func FuzzTemplate(f *testing.F) {
	f.Add(`{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"p","x":"{{.PodCIDR}}"}]}`)
	f.Add(`{{range .Routes}}{{.}}{{end}}`)
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Count(text, "{{") > 4 {
			return // loops in loops take their time
		}
		out, err := render([]byte(text), []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")})
		if err == nil && conf.Check(out) != nil {
			t.Errorf("%q makes %q", text, out)
		}
	})
}
