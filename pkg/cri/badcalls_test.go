package cri_test

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// TestBadCalls are the causes of all other RPCs, and of states.
func TestBadCalls(t *testing.T) {
	d := open(t)
	sandbox, created := d.container(t)
	long := strings.Repeat("9", 300)
	calls := []struct {
		name  string
		call  func(ctx context.Context) error
		code  codes.Code
		names string
	}{
		{"run nothing", func(ctx context.Context) error {
			_, err := d.rt.RunPodSandbox(ctx, &v1.RunPodSandboxRequest{})
			return err
		}, invalid, "config is missing"},
		{"unknown handler", func(ctx context.Context) error {
			r := pod()
			r.RuntimeHandler = "kata"
			r.Config.Metadata.Name = "other"
			_, err := d.rt.RunPodSandbox(ctx, r)
			return err
		}, codes.NotFound, "kata"},
		{"handler with a newline", func(ctx context.Context) error {
			r := pod()
			r.RuntimeHandler = "a\nb"
			_, err := d.rt.RunPodSandbox(ctx, r)
			return err
		}, invalid, "runtime_handler"},
		{"create nothing", func(ctx context.Context) error {
			_, err := d.rt.CreateContainer(ctx, &v1.CreateContainerRequest{PodSandboxId: sandbox})
			return err
		}, invalid, "config is missing"},
		{"create nowhere", func(ctx context.Context) error { _, err := d.rt.CreateContainer(ctx, ctr("")); return err }, invalid, "pod_sandbox_id"},
		{"create in an unknown sandbox", func(ctx context.Context) error { _, err := d.rt.CreateContainer(ctx, ctr("ffff")); return err }, codes.NotFound, "ffff"},
		{"stop sandbox without id", func(ctx context.Context) error {
			_, err := d.rt.StopPodSandbox(ctx, &v1.StopPodSandboxRequest{})
			return err
		}, invalid, "pod_sandbox_id"},
		{"remove sandbox without id", func(ctx context.Context) error {
			_, err := d.rt.RemovePodSandbox(ctx, &v1.RemovePodSandboxRequest{})
			return err
		}, invalid, "pod_sandbox_id"},
		{"sandbox status without id", func(ctx context.Context) error {
			_, err := d.rt.PodSandboxStatus(ctx, &v1.PodSandboxStatusRequest{})
			return err
		}, invalid, "pod_sandbox_id"},
		{"unknown sandbox", func(ctx context.Context) error {
			_, err := d.rt.PodSandboxStatus(ctx, &v1.PodSandboxStatusRequest{PodSandboxId: "ffff"})
			return err
		}, codes.NotFound, "ffff"},
		{"sandbox id too long", func(ctx context.Context) error {
			_, err := d.rt.PodSandboxStatus(ctx, &v1.PodSandboxStatusRequest{PodSandboxId: long})
			return err
		}, invalid, "pod_sandbox_id"},
		{"ambiguous prefix", func(ctx context.Context) error {
			r := pod()
			r.Config.Metadata.Name = "second"
			if _, err := d.rt.RunPodSandbox(ctx, r); err != nil {
				return err
			}
			_, err := d.rt.PodSandboxStatus(ctx, &v1.PodSandboxStatusRequest{PodSandboxId: "0000"})
			return err
		}, invalid, "0000"},
		{"sandbox state 7", func(ctx context.Context) error {
			_, err := d.rt.ListPodSandbox(ctx, &v1.ListPodSandboxRequest{Filter: &v1.PodSandboxFilter{State: &v1.PodSandboxStateValue{State: 7}}})
			return err
		}, invalid, "filter.state"},
		{"container state 7", func(ctx context.Context) error {
			_, err := d.rt.ListContainers(ctx, &v1.ListContainersRequest{Filter: &v1.ContainerFilter{State: &v1.ContainerStateValue{State: 7}}})
			return err
		}, invalid, "filter.state"},
		{"start without id", func(ctx context.Context) error {
			_, err := d.rt.StartContainer(ctx, &v1.StartContainerRequest{})
			return err
		}, invalid, "container_id"},
		{"start unknown", func(ctx context.Context) error {
			_, err := d.rt.StartContainer(ctx, &v1.StartContainerRequest{ContainerId: "ffff"})
			return err
		}, codes.NotFound, "ffff"},
		{"status unknown", func(ctx context.Context) error {
			_, err := d.rt.ContainerStatus(ctx, &v1.ContainerStatusRequest{ContainerId: "ffff"})
			return err
		}, codes.NotFound, "ffff"},
		{"id with a newline", func(ctx context.Context) error {
			_, err := d.rt.ContainerStatus(ctx, &v1.ContainerStatusRequest{ContainerId: "a\nb"})
			return err
		}, invalid, "container_id"},
		{"negative grace", func(ctx context.Context) error {
			_, err := d.rt.StopContainer(ctx, &v1.StopContainerRequest{ContainerId: created, Timeout: -1})
			return err
		}, invalid, "timeout"},
		{"endless grace", func(ctx context.Context) error {
			_, err := d.rt.StopContainer(ctx, &v1.StopContainerRequest{ContainerId: created, Timeout: 1<<63 - 1})
			return err
		}, invalid, "timeout"},
		{"reopen what does not run", func(ctx context.Context) error {
			_, err := d.rt.ReopenContainerLog(ctx, &v1.ReopenContainerLogRequest{ContainerId: created})
			return err
		}, codes.FailedPrecondition, created},
		{"exec in what does not run", func(ctx context.Context) error {
			_, err := d.rt.ExecSync(ctx, &v1.ExecSyncRequest{ContainerId: created, Cmd: []string{"true"}})
			return err
		}, codes.FailedPrecondition, created},
		{"exec of nothing", func(ctx context.Context) error {
			_, err := d.rt.ExecSync(ctx, &v1.ExecSyncRequest{ContainerId: created})
			return err
		}, invalid, "cmd is empty"},
		{"exec of an empty program", func(ctx context.Context) error {
			_, err := d.rt.ExecSync(ctx, &v1.ExecSyncRequest{ContainerId: created, Cmd: []string{""}})
			return err
		}, invalid, "cmd is empty"},
		{"exec with a NUL", func(ctx context.Context) error {
			_, err := d.rt.ExecSync(ctx, &v1.ExecSyncRequest{ContainerId: created, Cmd: []string{"a\x00"}})
			return err
		}, invalid, "cmd[0]"},
		{"exec with a negative timeout", func(ctx context.Context) error {
			_, err := d.rt.ExecSync(ctx, &v1.ExecSyncRequest{ContainerId: created, Cmd: []string{"a"}, Timeout: -5})
			return err
		}, invalid, "timeout"},
		{"pull nothing", func(ctx context.Context) error { _, err := d.images.PullImage(ctx, &v1.PullImageRequest{}); return err }, invalid, "image.image"},
		{"pull for an unknown handler", func(ctx context.Context) error {
			_, err := d.images.PullImage(ctx, &v1.PullImageRequest{Image: &v1.ImageSpec{Image: "x", RuntimeHandler: "kata"}})
			return err
		}, codes.NotFound, "runtime_handler"},
		{"password with a newline", func(ctx context.Context) error {
			_, err := d.images.PullImage(ctx, &v1.PullImageRequest{Image: &v1.ImageSpec{Image: "x"}, Auth: &v1.AuthConfig{Password: "hunter2\r\nX: y"}})
			return err
		}, invalid, "auth.password"},
		{"image status of nothing", func(ctx context.Context) error {
			_, err := d.images.ImageStatus(ctx, &v1.ImageStatusRequest{})
			return err
		}, invalid, "image.image"},
		{"remove no image", func(ctx context.Context) error {
			_, err := d.images.RemoveImage(ctx, &v1.RemoveImageRequest{Image: &v1.ImageSpec{}})
			return err
		}, invalid, "image.image"},
		{"list images by a blank", func(ctx context.Context) error {
			_, err := d.images.ListImages(ctx, &v1.ListImagesRequest{Filter: &v1.ImageFilter{Image: &v1.ImageSpec{Image: "a b"}}})
			return err
		}, invalid, "filter.image.image"},
		{"start twice", func(ctx context.Context) error {
			if _, err := d.rt.StartContainer(ctx, &v1.StartContainerRequest{ContainerId: created}); err != nil {
				return err
			}
			_, err := d.rt.StartContainer(ctx, &v1.StartContainerRequest{ContainerId: created})
			return err
		}, codes.FailedPrecondition, created},
		{"create in a stopped sandbox", func(ctx context.Context) error {
			if _, err := d.rt.StopPodSandbox(ctx, &v1.StopPodSandboxRequest{PodSandboxId: sandbox}); err != nil {
				return err
			}
			_, err := d.rt.CreateContainer(ctx, ctr(sandbox))
			return err
		}, codes.FailedPrecondition, "stopped"},
	}
	for _, tc := range calls {
		t.Run(tc.name, func(t *testing.T) {
			err := tc.call(t.Context())
			refused(t, err, tc.code, tc.names)
			if strings.Contains(status.Convert(err).Message(), "hunter2") {
				t.Errorf("error shows a secret: %v", err)
			}
		})
	}
	t.Logf("%d causes in all", len(badPods)+len(badContainers)+len(calls))
}
