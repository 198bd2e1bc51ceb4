package cri_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func TestVersionStatusConfig(t *testing.T) {
	d := open(t)
	version, err := d.rt.Version(t.Context(), &v1.VersionRequest{Version: "0.1.0"})
	if err != nil {
		t.Fatal(err)
	}
	want := &v1.VersionResponse{Version: "0.1.0", RuntimeName: "runtimed", RuntimeVersion: "1.2.3", RuntimeApiVersion: "v1"}
	if diff := cmp.Diff(want, version, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	config, err := d.rt.RuntimeConfig(t.Context(), &v1.RuntimeConfigRequest{})
	if err != nil || config.Linux.GetCgroupDriver() != v1.CgroupDriver_CGROUPFS {
		t.Errorf("RuntimeConfig: %v, %v", config, err)
	}
	s, err := d.rt.Status(t.Context(), &v1.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	wantStatus := &v1.StatusResponse{
		Status: &v1.RuntimeStatus{Conditions: []*v1.RuntimeCondition{
			{Type: "RuntimeReady", Status: true}, {Type: "NetworkReady", Status: true},
		}},
		RuntimeHandlers: []*v1.RuntimeHandler{
			{Features: &v1.RuntimeHandlerFeatures{}}, {Name: "special", Features: &v1.RuntimeHandlerFeatures{UserNamespaces: true}},
		},
		Features: &v1.RuntimeFeatures{SupplementalGroupsPolicy: true},
	}
	if diff := cmp.Diff(wantStatus, s, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	if s, err := d.rt.Status(t.Context(), &v1.StatusRequest{Verbose: true}); err != nil || len(s.Info) == 0 {
		t.Errorf("verbose status: %v, %v", s, err)
	}
}

// TestSandboxComesBack: what was asked is what a status and a list show.
func TestSandboxComesBack(t *testing.T) {
	d := open(t)
	begin := time.Now().UnixNano()
	sandbox, _ := d.container(t)
	req := pod()
	got, err := d.rt.PodSandboxStatus(t.Context(), &v1.PodSandboxStatusRequest{PodSandboxId: sandbox[:13], Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	want := &v1.PodSandboxStatus{
		Id: sandbox, Metadata: req.Config.Metadata, State: v1.PodSandboxState_SANDBOX_READY, CreatedAt: got.Status.CreatedAt,
		Network: &v1.PodSandboxNetworkStatus{Ip: "10.0.0.2", AdditionalIps: []*v1.PodIP{{Ip: "fd00::2"}}},
		Linux:   &v1.LinuxPodSandboxStatus{Namespaces: &v1.Namespace{Options: req.Config.Linux.SecurityContext.NamespaceOptions}},
		Labels:  req.Config.Labels, Annotations: req.Config.Annotations,
	}
	if diff := cmp.Diff(want, got.Status, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	if len(got.ContainersStatuses) != 1 || got.Timestamp < begin || got.Status.CreatedAt < begin {
		t.Errorf("containers %v, timestamp %d, created %d", got.ContainersStatuses, got.Timestamp, got.Status.CreatedAt)
	}
	hasKeys(t, got.Info["info"], "pid", "config", "profile", "network")
	list, err := d.rt.ListPodSandbox(t.Context(), &v1.ListPodSandboxRequest{Filter: &v1.PodSandboxFilter{
		Id: sandbox[:13], State: &v1.PodSandboxStateValue{}, LabelSelector: map[string]string{"app": "web"},
	}})
	if err != nil || len(list.Items) != 1 || list.Items[0].Metadata.Attempt != 1 || list.Items[0].Id != sandbox {
		t.Errorf("list: %v, %v", list, err)
	}
	again, err := d.rt.RunPodSandbox(t.Context(), pod())
	if err != nil || again.PodSandboxId != sandbox {
		t.Errorf("a retry gets %v, %v", again, err)
	}
}

func hasKeys(t *testing.T, doc string, keys ...string) {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(doc), &m); err != nil {
		t.Fatalf("info %q: %v", doc, err)
	}
	for _, k := range keys {
		if _, ok := m[k]; !ok {
			t.Errorf("info lacks %s: %s", k, doc)
		}
	}
}

func TestContainerComesBack(t *testing.T) {
	d := open(t)
	_, id := d.container(t)
	status := func() *v1.ContainerStatus {
		t.Helper()
		r, err := d.rt.ContainerStatus(t.Context(), &v1.ContainerStatusRequest{ContainerId: id[:12], Verbose: true})
		if err != nil {
			t.Fatal(err)
		}
		hasKeys(t, r.Info["info"], "pid", "config", "profile", "runtimeSpec")
		return r.Status
	}
	got, req := status(), ctr("").Config
	want := &v1.ContainerStatus{
		Id: id, Metadata: req.Metadata, State: v1.ContainerState_CONTAINER_CREATED, CreatedAt: got.CreatedAt,
		Image:    &v1.ImageSpec{Image: "busybox:1", UserSpecifiedImage: "busybox:1"},
		ImageRef: "example/x@sha256:" + strings.Repeat("2", 64), ImageId: "sha256:" + strings.Repeat("1", 64),
		Labels: req.Labels, Annotations: req.Annotations, Mounts: req.Mounts, LogPath: "/var/log/pods/default_web_0f3c/c/2.log",
		Resources:  &v1.ContainerResources{Linux: req.Linux.Resources},
		User:       &v1.ContainerUser{Linux: &v1.LinuxContainerUser{}},
		StopSignal: v1.Signal_SIGNAL_SIGUSR1,
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	if _, err := d.rt.StartContainer(t.Context(), &v1.StartContainerRequest{ContainerId: id}); err != nil {
		t.Fatal(err)
	}
	if got := status(); got.State != v1.ContainerState_CONTAINER_RUNNING || got.StartedAt == 0 || got.FinishedAt != 0 {
		t.Errorf("running: %v", got)
	}
	if _, err := d.rt.StopContainer(t.Context(), &v1.StopContainerRequest{ContainerId: id}); err != nil {
		t.Fatal(err)
	}
	if got := status(); got.State != v1.ContainerState_CONTAINER_EXITED || got.FinishedAt == 0 || got.ExitCode != 143 || got.Reason != "Error" {
		t.Errorf("exited: %v", got)
	}
	list, err := d.rt.ListContainers(t.Context(), &v1.ListContainersRequest{Filter: &v1.ContainerFilter{
		State: &v1.ContainerStateValue{State: v1.ContainerState_CONTAINER_EXITED}, LabelSelector: map[string]string{"l": "1"},
	}})
	if err != nil || len(list.Containers) != 1 || list.Containers[0].ImageId == "" || list.Containers[0].Metadata.Attempt != 2 {
		t.Errorf("list: %v, %v", list, err)
	}
}

// TestUnknownIsDone: stopping and removing what is not there succeeds, also twice; a list of it is empty.
func TestUnknownIsDone(t *testing.T) {
	d := open(t)
	for range 2 {
		for name, call := range map[string]func() error{
			"StopPodSandbox": func() error {
				_, err := d.rt.StopPodSandbox(t.Context(), &v1.StopPodSandboxRequest{PodSandboxId: "ff"})
				return err
			},
			"RemovePodSandbox": func() error {
				_, err := d.rt.RemovePodSandbox(t.Context(), &v1.RemovePodSandboxRequest{PodSandboxId: "ff"})
				return err
			},
			"StopContainer": func() error {
				_, err := d.rt.StopContainer(t.Context(), &v1.StopContainerRequest{ContainerId: "ff"})
				return err
			},
			"RemoveContainer": func() error {
				_, err := d.rt.RemoveContainer(t.Context(), &v1.RemoveContainerRequest{ContainerId: "ff"})
				return err
			},
			"RemoveImage": func() error {
				_, err := d.images.RemoveImage(t.Context(), &v1.RemoveImageRequest{Image: &v1.ImageSpec{Image: "ff"}})
				return err
			},
		} {
			if err := call(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	pods, err := d.rt.ListPodSandbox(t.Context(), &v1.ListPodSandboxRequest{Filter: &v1.PodSandboxFilter{Id: "ff"}})
	if err != nil || len(pods.Items) != 0 {
		t.Errorf("pods: %v, %v", pods, err)
	}
	containers, err := d.rt.ListContainers(t.Context(), &v1.ListContainersRequest{Filter: &v1.ContainerFilter{PodSandboxId: "ff"}})
	if err != nil || len(containers.Containers) != 0 {
		t.Errorf("containers: %v, %v", containers, err)
	}
	images, err := d.images.ListImages(t.Context(), &v1.ListImagesRequest{Filter: &v1.ImageFilter{Image: &v1.ImageSpec{Image: "ff"}}})
	if err != nil || len(images.Images) != 0 {
		t.Errorf("images: %v, %v", images, err)
	}
}

func TestImages(t *testing.T) {
	d := open(t)
	none, err := d.images.ImageStatus(t.Context(), &v1.ImageStatusRequest{Image: &v1.ImageSpec{Image: "busybox"}})
	if err != nil || none.Image != nil {
		t.Errorf("a missing image: %v, %v", none, err)
	}
	pulled, err := d.images.PullImage(t.Context(), &v1.PullImageRequest{Image: &v1.ImageSpec{Image: "busybox", RuntimeHandler: "special"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"busybox", pulled.ImageRef, pulled.ImageRef[7:20]} {
		got, err := d.images.ImageStatus(t.Context(), &v1.ImageStatusRequest{Image: &v1.ImageSpec{Image: ref}, Verbose: true})
		if err != nil || got.Image.GetId() != pulled.ImageRef || got.Image.GetUid().GetValue() != 65534 || got.Info["info"] == "" {
			t.Errorf("status of %s: %v, %v", ref, got, err)
		}
	}
	fs, err := d.images.ImageFsInfo(t.Context(), &v1.ImageFsInfoRequest{})
	if err != nil || len(fs.ImageFilesystems) != 1 || len(fs.ContainerFilesystems) != 1 ||
		fs.ImageFilesystems[0].FsId.GetMountpoint() != "/" || fs.ImageFilesystems[0].Timestamp == 0 || fs.ImageFilesystems[0].UsedBytes.GetValue() == 0 {
		t.Errorf("ImageFsInfo: %v, %v", fs, err)
	}
	if _, err := d.images.RemoveImage(t.Context(), &v1.RemoveImageRequest{Image: &v1.ImageSpec{Image: "busybox"}}); err != nil {
		t.Error(err)
	}
	if list, err := d.images.ListImages(t.Context(), &v1.ListImagesRequest{}); err != nil || len(list.Images) != 0 {
		t.Errorf("after removal: %v, %v", list, err)
	}
}

// TestManyFitIntoOneMessage: 5,000 containers with the labels and annotations of a kubelet.
func TestManyFitIntoOneMessage(t *testing.T) {
	d := open(t)
	sandbox := d.sandbox(t)
	for i := range 5000 {
		_, err := d.runtime.CreateContainer(t.Context(), sandbox, spec.ContainerRequest{
			Name:        fmt.Sprintf("c%d", i),
			Labels:      map[string]string{"io.kubernetes.container.name": "c", "io.kubernetes.pod.uid": strings.Repeat("u", 36)},
			Annotations: map[string]string{"io.kubernetes.container.hash": "12345678", "io.kubernetes.container.ports": strings.Repeat("p", 200)},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	list, err := d.rt.ListContainers(t.Context(), &v1.ListContainersRequest{})
	if err != nil || len(list.Containers) != 5000 {
		t.Errorf("%d containers, %v", len(list.GetContainers()), err)
	}
}

func TestExecOutputFitsIntoAMessage(t *testing.T) {
	d := open(t)
	_, id := d.container(t)
	if _, err := d.rt.StartContainer(t.Context(), &v1.StartContainerRequest{ContainerId: id}); err != nil {
		t.Fatal(err)
	}
	big := make([]byte, 16<<20)
	for name, r := range map[string]spec.ExecResult{
		"both":   {Stdout: big, Stderr: big, ExitCode: 3},
		"stdout": {Stdout: big, Stderr: []byte("e"), ExitCode: 3},
		"stderr": {Stdout: []byte("o"), Stderr: big, ExitCode: 3},
	} {
		d.runtime.Exec = func(spec.ExecRequest) (spec.ExecResult, error) { return r, nil }
		got, err := d.rt.ExecSync(t.Context(), &v1.ExecSyncRequest{ContainerId: id, Cmd: []string{"x"}})
		if err != nil || got.ExitCode != 3 || len(got.Stdout)+len(got.Stderr) < 16<<20-100 || len(got.Stdout) == 0 || len(got.Stderr) == 0 {
			t.Errorf("%s: %d and %d bytes, code %d, %v", name, len(got.GetStdout()), len(got.GetStderr()), got.GetExitCode(), err)
		}
	}
}

func TestMessagesAreBounded(t *testing.T) {
	d := open(t)
	r := pod()
	r.Config.Annotations["x"] = strings.Repeat("x", 17<<20)
	if _, err := d.rt.RunPodSandbox(t.Context(), r); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("17 MiB in: %v", err)
	}
	for i := range 20 {
		d.store.Add(spec.Image{ID: fmt.Sprint(i), RepoTags: []string{strings.Repeat("t", 1<<20)}})
	}
	if _, err := d.images.ListImages(t.Context(), &v1.ListImagesRequest{}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("20 MiB out: %v", err)
	}
	if _, err := d.rt.Version(t.Context(), &v1.VersionRequest{}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}
