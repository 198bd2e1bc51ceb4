package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/integration/registrytest"
)

const configuration = `version = 1
root = "%[1]s/root"
run = "%[1]s/run"
netns_dir = "%[1]s/netns"

[cgroup]
root = "%[2]s/ours"

[network]
bridge = "bench0"
nft_table = "bench"

[trust]
mode = "off"

[registry.%[3]q]
plain_http = true
`

// startDaemon starts a registry with the images and a daemon that knows it.
func (b *bench) startDaemon(ctx context.Context) (stop func(), err error) {
	if b.registry, err = registrytest.Start(registrytest.Options{}); err != nil {
		return nil, err
	}
	config := filepath.Join(b.dir, "config.toml")
	if err := os.WriteFile(config, fmt.Appendf(nil, configuration, b.dir, b.groups, b.registry.Host), 0o600); err != nil {
		return nil, err
	}
	complaints, err := os.Create(filepath.Join(b.dir, "daemon.log"))
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("runtimed", "serve", "--config", config)
	cmd.Stderr = complaints
	if err := b.inGroup("ours/daemon", cmd.Start); err != nil {
		return nil, err
	}
	b.pid = cmd.Process.Pid
	stop = func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		b.registry.Close()
	}
	if err := b.connect(ctx); err != nil {
		stop()
		said, _ := os.ReadFile(complaints.Name())
		return nil, fmt.Errorf("the daemon does not serve: %w\n%s", err, said)
	}
	return stop, nil
}

func (b *bench) connect(ctx context.Context) error {
	conn, err := grpc.NewClient("unix://"+filepath.Join(b.dir, "run/runtimed.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	b.runtime, b.images = runtimeapi.NewRuntimeServiceClient(conn), runtimeapi.NewImageServiceClient(conn)
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	_, err = b.runtime.Version(ctx, &runtimeapi.VersionRequest{}, grpc.WaitForReady(true))
	return err
}

// image makes an image with the probe and the usual directories in the lowest of its layers, and pulls it.
func (b *bench) image(ctx context.Context, name string, layers int) (string, error) {
	body, err := os.ReadFile(b.probe)
	if err != nil {
		return "", err
	}
	image := registrytest.Image{Layers: []registrytest.Layer{{Files: []registrytest.File{
		{Name: "probe", Mode: 0o755, Body: body},
		{Name: "dev/", Mode: 0o755}, {Name: "etc/", Mode: 0o755}, {Name: "proc/", Mode: 0o755}, {Name: "sys/", Mode: 0o755},
		{Name: "etc/passwd", Mode: 0o644, Body: []byte("root:x:0:0:root:/:/probe\n")},
	}}}}
	for i := 1; i < layers; i++ {
		dir := fmt.Sprintf("layer%d/", i)
		image.Layers = append(image.Layers, registrytest.Layer{Files: []registrytest.File{
			{Name: dir, Mode: 0o755}, {Name: dir + "file", Mode: 0o644, Body: []byte(dir)},
		}})
	}
	if _, err := b.registry.Push(name, image); err != nil {
		return "", err
	}
	return b.pull(ctx, name)
}

func (b *bench) pull(ctx context.Context, name string) (string, error) {
	ref := b.registry.Ref(name)
	_, err := b.images.PullImage(ctx, &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: ref}})
	return ref, err
}
