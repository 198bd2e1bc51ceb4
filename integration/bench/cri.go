package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// pod is a sandbox that was made, and what it was made from.
type pod struct {
	id     string
	config *runtimeapi.PodSandboxConfig
}

// newConfig is a pod's request as a kubelet makes it, with the built-in network and nothing asked for.
func (b *bench) newConfig() *runtimeapi.PodSandboxConfig {
	b.serial++
	name := fmt.Sprintf("bench-%d", b.serial)
	return &runtimeapi.PodSandboxConfig{
		Metadata: &runtimeapi.PodSandboxMetadata{Name: name, Namespace: "bench", Uid: name},
		Hostname: name, LogDirectory: filepath.Join(b.dir, "logs"),
		Linux: &runtimeapi.LinuxPodSandboxConfig{
			CgroupParent: b.groups + "/ours/kubelet/" + name,
			SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{
				NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER},
			},
		},
	}
}

func (b *bench) runPod(ctx context.Context, config *runtimeapi.PodSandboxConfig) (pod, error) {
	r, err := b.runtime.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: config})
	if err != nil {
		return pod{}, err
	}
	return pod{id: r.PodSandboxId, config: config}, nil
}

func (b *bench) newPod(ctx context.Context) (pod, error) { return b.runPod(ctx, b.newConfig()) }

// startContainer is Create and Start. The container's log is logOf(its pod, its name).
func (b *bench) startContainer(ctx context.Context, p pod, name, image string, args ...string) (string, error) {
	created, err := b.runtime.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{
		PodSandboxId: p.id, SandboxConfig: p.config,
		Config: &runtimeapi.ContainerConfig{
			Metadata: &runtimeapi.ContainerMetadata{Name: name},
			Image:    &runtimeapi.ImageSpec{Image: image},
			Command:  append([]string{"/probe"}, args...),
			LogPath:  p.config.Metadata.Name + "-" + name + ".log",
			Linux: &runtimeapi.LinuxContainerConfig{
				Resources:       &runtimeapi.LinuxContainerResources{CpuShares: 512, MemoryLimitInBytes: 512 << 20},
				SecurityContext: &runtimeapi.LinuxContainerSecurityContext{NamespaceOptions: p.config.Linux.SecurityContext.NamespaceOptions},
			},
		},
	})
	if err != nil {
		return "", err
	}
	_, err = b.runtime.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: created.ContainerId})
	return created.ContainerId, err
}

func (b *bench) logOf(p pod, name string) string {
	return filepath.Join(b.dir, "logs", p.config.Metadata.Name+"-"+name+".log")
}

// removeContainer kills it and removes its log.
func (b *bench) removeContainer(ctx context.Context, p pod, name, id string) error {
	if _, err := b.runtime.StopContainer(ctx, &runtimeapi.StopContainerRequest{ContainerId: id}); err != nil {
		return err
	}
	if _, err := b.runtime.RemoveContainer(ctx, &runtimeapi.RemoveContainerRequest{ContainerId: id}); err != nil {
		return err
	}
	return os.Remove(b.logOf(p, name))
}

func (b *bench) removePod(ctx context.Context, p pod) error {
	if _, err := b.runtime.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: p.id}); err != nil {
		return err
	}
	_, err := b.runtime.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: p.id})
	return err
}

// record is the directory where the daemon keeps a container's bundle.
func (b *bench) record(p pod, container string) string {
	return filepath.Join(b.dir, "root/sandboxes", p.id, "containers", container)
}
