package cri_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/pkg/cri"
	"github.com/runtimed/runtimed/pkg/cri/control"
	"github.com/runtimed/runtimed/pkg/cri/control/controlpb"
	"github.com/runtimed/runtimed/pkg/cri/fake"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// door is a served socket with a client.
type door struct {
	runtime *fake.Runtime
	store   *fake.Images
	log     *lockedBuffer
	server  *cri.Server
	sold    *sold
	socket  string

	conn    *grpc.ClientConn
	rt      v1.RuntimeServiceClient
	images  v1.ImageServiceClient
	control controlpb.ControlClient
	leave   context.CancelFunc
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// shortDir is a directory whose socket paths are short enough, with mode 0700.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "cri")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func dial(t *testing.T, socket string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20), grpc.MaxCallSendMsgSize(64<<20)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func open(t *testing.T) *door {
	t.Helper()
	d := &door{
		runtime: &fake.Runtime{Handlers: []spec.Handler{{Name: ""}, {Name: "special", UserNamespaces: true}}},
		store:   &fake.Images{}, log: &lockedBuffer{}, sold: &sold{},
	}
	log := slog.New(slog.NewTextHandler(d.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	d.server = cri.New(cri.Options{
		Runtime: d.runtime, Images: d.store, Log: log, Version: "1.2.3", Streaming: d.sold,
		RuntimeSpec: func(_, _ string) ([]byte, error) { return []byte(`{"ociVersion":"1.3.0"}`), nil },
	})
	ctx, cancel := context.WithCancel(context.Background())
	d.leave = cancel
	control.New(ctx, d.runtime, &controlpb.InfoResponse{Version: "1.2.3", TrustMode: "off"}).Register(d.server)
	d.socket = filepath.Join(shortDir(t), "s.sock")
	l, err := cri.Listen(d.socket, []uint32{uint32(os.Geteuid())}, log)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- d.server.Serve(l) }()
	t.Cleanup(func() {
		cancel()
		end, stop := context.WithTimeout(context.Background(), time.Second)
		defer stop()
		d.server.Stop(end)
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	d.conn = dial(t, d.socket)
	d.rt, d.images, d.control = v1.NewRuntimeServiceClient(d.conn), v1.NewImageServiceClient(d.conn), controlpb.NewControlClient(d.conn)
	return d
}

// pod is a good request.
func pod() *v1.RunPodSandboxRequest {
	return &v1.RunPodSandboxRequest{Config: &v1.PodSandboxConfig{
		Metadata: &v1.PodSandboxMetadata{Name: "web", Uid: "0f3c", Namespace: "default", Attempt: 1},
		Hostname: "web-0", LogDirectory: "/var/log/pods/default_web_0f3c",
		DnsConfig:    &v1.DNSConfig{Servers: []string{"10.96.0.10"}, Searches: []string{"svc.cluster.local"}, Options: []string{"ndots:5"}},
		PortMappings: []*v1.PortMapping{{Protocol: v1.Protocol_TCP, ContainerPort: 80, HostPort: 8080}},
		Labels:       map[string]string{"app": "web"}, Annotations: map[string]string{"a": "b"},
		Linux: &v1.LinuxPodSandboxConfig{
			CgroupParent: "/kubepods/pod1", Sysctls: map[string]string{"net.ipv4.ip_local_port_range": "1024 65535"},
			SecurityContext: &v1.LinuxSandboxSecurityContext{NamespaceOptions: namespaces()},
		},
	}}
}

func namespaces() *v1.NamespaceOption {
	return &v1.NamespaceOption{Pid: v1.NamespaceMode_CONTAINER, UsernsOptions: &v1.UserNamespace{
		Mode: v1.NamespaceMode_POD,
		Uids: []*v1.IDMapping{{HostId: 1 << 20, ContainerId: 0, Length: 65536}},
		Gids: []*v1.IDMapping{{HostId: 1 << 20, ContainerId: 0, Length: 65536}},
	}}
}

// ctr is a good request for a sandbox.
func ctr(sandbox string) *v1.CreateContainerRequest {
	return &v1.CreateContainerRequest{PodSandboxId: sandbox, Config: &v1.ContainerConfig{
		Metadata: &v1.ContainerMetadata{Name: "c", Attempt: 2},
		Image:    &v1.ImageSpec{Image: "sha256:11", UserSpecifiedImage: "busybox:1"},
		Command:  []string{"sh"}, Args: []string{"-c", "true\nfalse"}, WorkingDir: "/work",
		Envs:    []*v1.KeyValue{{Key: "A", Value: []byte("b\nc")}},
		Mounts:  []*v1.Mount{{ContainerPath: "/data", HostPath: "/srv/data", Readonly: true}},
		Devices: []*v1.Device{{ContainerPath: "/dev/fuse", HostPath: "/dev/fuse", Permissions: "rwm"}},
		Labels:  map[string]string{"l": "1"}, Annotations: map[string]string{"n": "2"}, LogPath: "c/2.log",
		StopSignal: v1.Signal_SIGNAL_SIGUSR1,
		Linux: &v1.LinuxContainerConfig{
			Resources: &v1.LinuxContainerResources{CpuPeriod: 100000, CpuQuota: 50000, CpuShares: 512, MemoryLimitInBytes: 64 << 20, OomScoreAdj: 900,
				CpusetCpus: "0-1", HugepageLimits: []*v1.HugepageLimit{{PageSize: "2MB"}}, Unified: map[string]string{"pids.max": "100"}},
			SecurityContext: &v1.LinuxContainerSecurityContext{
				Capabilities:     &v1.Capability{AddCapabilities: []string{"NET_RAW"}, DropCapabilities: []string{"ALL"}},
				NamespaceOptions: namespaces(), RunAsUser: &v1.Int64Value{Value: 1000}, RunAsGroup: &v1.Int64Value{Value: 1000},
				SupplementalGroups: []int64{5}, Seccomp: &v1.SecurityProfile{}, MaskedPaths: []string{"/proc/acpi"},
			},
		},
	}}
}

func (d *door) sandbox(t *testing.T) string {
	t.Helper()
	r, err := d.rt.RunPodSandbox(t.Context(), pod())
	if err != nil {
		t.Fatal(err)
	}
	return r.PodSandboxId
}

func (d *door) container(t *testing.T) (sandbox, id string) {
	t.Helper()
	sandbox = d.sandbox(t)
	r, err := d.rt.CreateContainer(t.Context(), ctr(sandbox))
	if err != nil {
		t.Fatal(err)
	}
	return sandbox, r.ContainerId
}
