package cri_test

import (
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// TestUpdateRuntimeConfig: an empty one is no news, a wrong one is refused, a right one arrives.
func TestUpdateRuntimeConfig(t *testing.T) {
	d := open(t)
	client := v1.NewRuntimeServiceClient(d.conn)
	tell := func(cidr string) error {
		_, err := client.UpdateRuntimeConfig(t.Context(), &v1.UpdateRuntimeConfigRequest{
			RuntimeConfig: &v1.RuntimeConfig{NetworkConfig: &v1.NetworkConfig{PodCidr: cidr}}})
		return err
	}
	if _, err := client.UpdateRuntimeConfig(t.Context(), &v1.UpdateRuntimeConfigRequest{}); err != nil {
		t.Errorf("nothing: %v", err)
	}
	if err := tell("10.1.0.0"); status.Code(err) != codes.InvalidArgument {
		t.Errorf("an address: %v", err)
	}
	if got := fmt.Sprint(d.runtime.PodCIDRs); got != "[]" {
		t.Errorf("told %s", got)
	}
	if err := tell("10.1.0.0/24,fd00::/64"); err != nil {
		t.Error(err)
	}
	if got := fmt.Sprint(d.runtime.PodCIDRs); got != "[10.1.0.0/24 fd00::/64]" {
		t.Errorf("told %s", got)
	}
}
