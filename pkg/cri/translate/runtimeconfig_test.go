package translate

import (
	"fmt"
	"strings"
	"testing"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func podCIDRs(text string) *v1.UpdateRuntimeConfigRequest {
	return &v1.UpdateRuntimeConfigRequest{RuntimeConfig: &v1.RuntimeConfig{NetworkConfig: &v1.NetworkConfig{PodCidr: text}}}
}

func TestPodCIDRs(t *testing.T) {
	for text, want := range map[string]string{
		"": "[]", "  ": "[]",
		"10.244.1.0/24":                  "[10.244.1.0/24]",
		"10.244.1.7/24":                  "[10.244.1.0/24]",
		"10.244.1.0/24, fd00:1::/64":     "[10.244.1.0/24 fd00:1::/64]",
		"10.244.1.0":                     "error",
		"10.244.1.0/33":                  "error",
		"10.244.1.0/24,":                 "error",
		"0.0.0.0/0":                      "error",
		"::ffff:10.0.0.0/104":            "error",
		strings.Repeat("10.0.0.0/8,", 9): "error",
		"nonsense":                       "error",
	} {
		cidrs, err := PodCIDRs(podCIDRs(text))
		got := fmt.Sprint(cidrs)
		if err != nil {
			got = "error"
			if !strings.Contains(err.Error(), "runtime_config.network_config.pod_cidr") {
				t.Errorf("%q: %v names no field", text, err)
			}
		}
		if got != want {
			t.Errorf("%q is %s (%v), want %s", text, got, err, want)
		}
	}
	if cidrs, err := PodCIDRs(nil); err != nil || cidrs != nil {
		t.Errorf("nil: %v, %v", cidrs, err)
	}
}
