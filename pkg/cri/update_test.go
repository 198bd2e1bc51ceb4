package cri_test

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestUpdatesAreShown(t *testing.T) {
	d := open(t)
	sandbox, id := d.container(t)
	update := func(r *v1.LinuxContainerResources) error {
		_, err := d.rt.UpdateContainerResources(t.Context(), &v1.UpdateContainerResourcesRequest{ContainerId: id[:12], Linux: r})
		return err
	}
	if err := update(&v1.LinuxContainerResources{CpuShares: 99}); err != nil {
		t.Fatal(err)
	}
	if err := update(nil); err != nil {
		t.Errorf("nothing to change: %v", err)
	}
	s, err := d.rt.ContainerStatus(t.Context(), &v1.ContainerStatusRequest{ContainerId: id})
	if err != nil {
		t.Fatal(err)
	}
	if l := s.Status.Resources.GetLinux(); l.GetCpuShares() != 99 || l.GetMemoryLimitInBytes() != 64<<20 {
		t.Errorf("shown: %v", l)
	}
	if err := update(&v1.LinuxContainerResources{CpuPeriod: 3}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a period of 3 µs: %v", err)
	}
	if _, err := d.rt.UpdatePodSandboxResources(t.Context(), &v1.UpdatePodSandboxResourcesRequest{PodSandboxId: sandbox[:12],
		Overhead: &v1.LinuxContainerResources{CpuShares: 2}, Resources: &v1.LinuxContainerResources{CpuShares: 99}}); err != nil {
		t.Fatal(err)
	}
	view, err := d.runtime.Sandbox(t.Context(), sandbox)
	if err != nil || view.Status.Overhead.CPUShares != 2 || view.Status.Resources.CPUShares != 99 {
		t.Errorf("kept: %+v, %v", view.Status, err)
	}
}
