package daemontest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/integration/registrytest"
)

// Patience is how long a call may take before the test fails.
var Patience = Slow(60 * time.Second)

// Ctx is a context for one call.
func Ctx(t TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	t.Cleanup(cancel)
	return ctx
}

// PodConfig is a pod as a kubelet asks for one, with nothing special: a PID namespace for each container, and not a word
// about users.
func (d *Daemon) PodConfig(name string) *v1.PodSandboxConfig {
	return &v1.PodSandboxConfig{
		Metadata: &v1.PodSandboxMetadata{Name: name, Namespace: "default", Uid: "uid-" + name},
		Hostname: name, LogDirectory: filepath.Join(d.Logs, name),
		Linux: &v1.LinuxPodSandboxConfig{
			CgroupParent:    d.CgroupParent(),
			SecurityContext: &v1.LinuxSandboxSecurityContext{NamespaceOptions: &v1.NamespaceOption{Pid: v1.NamespaceMode_CONTAINER}},
		},
	}
}

// CgroupParent is a group below the daemon's own, in the form of its driver, as a kubelet names one.
func (d *Daemon) CgroupParent() string {
	d.t.Helper()
	r, err := d.client.Runtime.RuntimeConfig(Ctx(d.t), &v1.RuntimeConfigRequest{})
	if err != nil {
		d.t.Fatalf("the cgroup driver: %v", err)
	}
	if r.GetLinux().GetCgroupDriver() == v1.CgroupDriver_SYSTEMD {
		return d.CgroupRoot + ".slice" + d.CgroupRoot + "-kubelet.slice"
	}
	return d.CgroupRoot + "/kubelet"
}

// ContainerConfig is a container with a shell script for its program.
func (d *Daemon) ContainerConfig(name, script string) *v1.ContainerConfig {
	return &v1.ContainerConfig{
		Metadata: &v1.ContainerMetadata{Name: name}, Image: &v1.ImageSpec{Image: d.Image},
		Command: []string{"/bin/sh", "-c", script}, LogPath: name + ".log",
		Linux: &v1.LinuxContainerConfig{Resources: &v1.LinuxContainerResources{}, SecurityContext: &v1.LinuxContainerSecurityContext{
			NamespaceOptions: &v1.NamespaceOption{Pid: v1.NamespaceMode_CONTAINER}, Capabilities: &v1.Capability{},
		}},
	}
}

// Sleep is a script that runs until it is told to stop.
const Sleep = "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done"

// Pull pulls the daemon's image.
func (d *Daemon) Pull() string {
	d.t.Helper()
	r, err := d.client.Images.PullImage(Ctx(d.t), &v1.PullImageRequest{Image: &v1.ImageSpec{Image: d.Image}})
	if err != nil {
		d.t.Fatalf("pull %s: %v", d.Image, err)
	}
	return r.ImageRef
}

// RunPod runs a pod.
func (d *Daemon) RunPod(c *v1.PodSandboxConfig) string {
	d.t.Helper()
	if err := os.MkdirAll(c.LogDirectory, 0o755); err != nil {
		d.t.Fatalf("%v", err)
	}
	r, err := d.client.Runtime.RunPodSandbox(Ctx(d.t), &v1.RunPodSandboxRequest{Config: c})
	if err != nil {
		d.t.Fatalf("run pod %s: %v", c.GetMetadata().GetName(), err)
	}
	return r.PodSandboxId
}

// Create creates a container.
func (d *Daemon) Create(pod string, p *v1.PodSandboxConfig, c *v1.ContainerConfig) string {
	d.t.Helper()
	r, err := d.client.Runtime.CreateContainer(Ctx(d.t), &v1.CreateContainerRequest{PodSandboxId: pod, Config: c, SandboxConfig: p})
	if err != nil {
		d.t.Fatalf("create %s: %v", c.GetMetadata().GetName(), err)
	}
	return r.ContainerId
}

// StartContainer starts a created container.
func (d *Daemon) StartContainer(id string) {
	d.t.Helper()
	if _, err := d.client.Runtime.StartContainer(Ctx(d.t), &v1.StartContainerRequest{ContainerId: id}); err != nil {
		d.t.Fatalf("start %s: %v", id, err)
	}
}

// RunContainer creates and starts a container.
func (d *Daemon) RunContainer(pod string, p *v1.PodSandboxConfig, c *v1.ContainerConfig) string {
	d.t.Helper()
	id := d.Create(pod, p, c)
	d.StartContainer(id)
	return id
}

// Exec runs a shell script in a container, and returns what it wrote; it must end with 0.
func (d *Daemon) Exec(id, script string) string {
	d.t.Helper()
	r, err := d.client.Runtime.ExecSync(Ctx(d.t), &v1.ExecSyncRequest{ContainerId: id, Cmd: []string{"/bin/sh", "-c", script}, Timeout: 30})
	if err != nil {
		d.t.Fatalf("exec %q: %v", script, err)
	}
	if r.ExitCode != 0 {
		d.t.Fatalf("exec %q ended with %d: %s%s", script, r.ExitCode, r.Stdout, r.Stderr)
	}
	return strings.TrimRight(string(r.Stdout), "\n")
}

// Status of a container.
func (d *Daemon) Status(id string) *v1.ContainerStatus {
	d.t.Helper()
	r, err := d.client.Runtime.ContainerStatus(Ctx(d.t), &v1.ContainerStatusRequest{ContainerId: id})
	if err != nil {
		d.t.Fatalf("status of %s: %v", id, err)
	}
	return r.Status
}

// Ended waits for a container's end.
func (d *Daemon) Ended(id string) *v1.ContainerStatus {
	d.t.Helper()
	var s *v1.ContainerStatus
	Eventually(d.t, Patience, func() error {
		if s = d.Status(id); s.State != v1.ContainerState_CONTAINER_EXITED {
			return fmt.Errorf("container %s is %v", id, s.State)
		}
		return nil
	})
	return s
}

// RemovePod stops and removes a pod with all of its containers.
func (d *Daemon) RemovePod(id string) {
	d.t.Helper()
	if _, err := d.client.Runtime.StopPodSandbox(Ctx(d.t), &v1.StopPodSandboxRequest{PodSandboxId: id}); err != nil {
		d.t.Fatalf("stop pod %s: %v", id, err)
	}
	if _, err := d.client.Runtime.RemovePodSandbox(Ctx(d.t), &v1.RemovePodSandboxRequest{PodSandboxId: id}); err != nil {
		d.t.Fatalf("remove pod %s: %v", id, err)
	}
}

// RemoveAll removes every pod.
func (d *Daemon) RemoveAll() {
	d.t.Helper()
	r, err := d.client.Runtime.ListPodSandbox(Ctx(d.t), &v1.ListPodSandboxRequest{})
	if err != nil {
		d.t.Fatalf("list pods: %v", err)
	}
	for _, p := range r.Items {
		d.RemovePod(p.Id)
	}
}

// Eventually asks until the answer is nil, and fails the test with the last answer after the time given.
func Eventually(t TB, within time.Duration, ask func() error) {
	t.Helper()
	end := time.Now().Add(within)
	for {
		err := ask()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("after %v still: %v", within, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

var busybox = sync.OnceValues(func() (registrytest.Image, error) {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return registrytest.Image{}, fmt.Errorf("%w: install busybox-static", err)
	}
	body, err := os.ReadFile(path)
	if err != nil {
		return registrytest.Image{}, err
	}
	applets, err := exec.Command(path, "--list").Output()
	if err != nil {
		return registrytest.Image{}, fmt.Errorf("%s --list: %w", path, err)
	}
	files := []registrytest.File{{Name: "bin/", Mode: 0o755}, {Name: "bin/busybox", Mode: 0o755, Body: body}}
	for _, name := range strings.Fields(string(applets)) {
		if name != "busybox" {
			files = append(files, registrytest.File{Name: "bin/" + name, Link: "busybox"})
		}
	}
	const (
		passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
		group  = "root:x:0:\napp:x:1000:\nextra:x:2000:app\nnobody:x:65534:\n"
	)
	settings := []registrytest.File{
		{Name: "etc/", Mode: 0o755}, {Name: "root/", Mode: 0o700}, {Name: "tmp/", Mode: 0o1777},
		{Name: "data/", Mode: 0o755}, {Name: "data/seed", Mode: 0o640, Body: []byte("from the image\n")},
		{Name: "home/", Mode: 0o755}, {Name: "home/app/", Mode: 0o750, UID: 1000, GID: 1000},
		{Name: "etc/passwd", Mode: 0o644, Body: []byte(passwd)}, {Name: "etc/group", Mode: 0o644, Body: []byte(group)},
	}
	return registrytest.Image{
		Config: registrytest.Config{Env: []string{"PATH=/bin", "FROM_IMAGE=yes"}, Cmd: []string{"/bin/sh"}},
		Layers: []registrytest.Layer{{Files: files}, {Files: settings, Compression: registrytest.Zstd}},
	}, nil
})

// Busybox is a small system from this machine's static busybox: every applet, the users root, app (1000, in the group
// extra) and nobody, and the file /data/seed.
func Busybox(t TB) registrytest.Image {
	t.Helper()
	image, err := busybox()
	if err != nil {
		t.Fatalf("%v", err)
	}
	return image
}
