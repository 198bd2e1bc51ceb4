package kill

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/integration/registrytest"
)

var fastRetries = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 5 * time.Millisecond, Multiplier: 1.1, MaxDelay: 10 * time.Millisecond},
	MinConnectTimeout: time.Second,
}

// system is busybox with a volume.
func system(t *testing.T) registrytest.Image {
	t.Helper()
	path, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatalf("%v: install busybox-static", err)
	}
	body, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	files := []registrytest.File{{Name: "bin/", Mode: 0o755}, {Name: "bin/busybox", Mode: 0o755, Body: body}}
	for _, name := range []string{"sh", "sleep", "true", "cat", "seq", "usleep"} {
		files = append(files, registrytest.File{Name: "bin/" + name, Link: "busybox"})
	}
	return registrytest.Image{
		Config: registrytest.Config{Env: []string{"PATH=/bin"}, Cmd: []string{"/bin/sh"}, Volumes: map[string]struct{}{"/data": {}}},
		Layers: []registrytest.Layer{{Files: files}, {Files: []registrytest.File{
			{Name: "etc/", Mode: 0o755}, {Name: "tmp/", Mode: 0o1777}, {Name: "data/", Mode: 0o755},
			{Name: "etc/passwd", Mode: 0o644, Body: []byte("root:x:0:0:root:/:/bin/sh\n")},
			{Name: "line", Mode: 0o644, Body: bytes.Repeat([]byte("abcdefghij"), bigLine/10)},
			{Name: "data/file", Mode: 0o644, Body: []byte("from the image\n")},
		}}},
	}
}

// bigLine is the length of the image's file /line: more than one part of a log's line.
const bigLine = 20000

// waiter runs until SIGTERM and ends with 7 then. Its argument makes its process known.
const waiter = "trap 'exit 7' TERM; echo hello; sleep 1000 & wait"

func (w *world) podConfig(name string) *v1.PodSandboxConfig {
	return &v1.PodSandboxConfig{
		Metadata: &v1.PodSandboxMetadata{Name: name, Namespace: "kill", Uid: name}, Hostname: "kill", LogDirectory: w.dir + "/logs/" + name,
		Linux: &v1.LinuxPodSandboxConfig{SecurityContext: &v1.LinuxSandboxSecurityContext{}},
	}
}

// bigPod has all that makes steps: a PID namespace with an init, and a port of the node.
func (w *world) bigPod(name string) *v1.PodSandboxConfig {
	c := w.podConfig(name)
	c.PortMappings = []*v1.PortMapping{{Protocol: v1.Protocol_TCP, ContainerPort: 80, HostPort: 8080}}
	c.Linux.SecurityContext.NamespaceOptions = &v1.NamespaceOption{Pid: v1.NamespaceMode_POD}
	return c
}

func (w *world) containerConfig(name, script string) *v1.ContainerConfig {
	return &v1.ContainerConfig{
		Metadata: &v1.ContainerMetadata{Name: name}, Image: &v1.ImageSpec{Image: w.image}, LogPath: name + ".log",
		Command: []string{"/bin/sh", "-c", script, "marked-" + name},
		Linux: &v1.LinuxContainerConfig{Resources: &v1.LinuxContainerResources{MemoryLimitInBytes: 64 << 20},
			SecurityContext: &v1.LinuxContainerSecurityContext{}},
	}
}

func limited() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 30*time.Second)
}

// cycle is one life of a pod with one container.
type cycle struct {
	*world
	pod       *v1.PodSandboxConfig
	container *v1.ContainerConfig
	sid, cid  string
	failed    string // the call that answered an error, "" for none
	err       error
}

func (w *world) newCycle() *cycle {
	pod := w.bigPod("pod")
	c := w.containerConfig("ctr", waiter)
	c.Linux.SecurityContext.NamespaceOptions = &v1.NamespaceOption{Pid: v1.NamespaceMode_POD}
	return &cycle{world: w, pod: pod, container: c}
}

// calls are a whole life, in order.
var calls = []string{"rmi", "pull", "runp", "create", "start", "stop", "rm", "stopp", "rmp"}

// run makes the calls up to the first that fails.
func (c *cycle) run() {
	c.failed, c.err = "", nil
	for _, name := range calls {
		if c.err = c.call(name); c.err != nil {
			c.failed = name
			return
		}
	}
}

func (c *cycle) call(name string) error {
	ctx, cancel := limited()
	defer cancel()
	var err error
	switch name {
	case "rmi":
		_, err = c.images.RemoveImage(ctx, &v1.RemoveImageRequest{Image: &v1.ImageSpec{Image: c.image}})
	case "pull":
		_, err = c.images.PullImage(ctx, &v1.PullImageRequest{Image: &v1.ImageSpec{Image: c.image}})
	case "runp":
		var a *v1.RunPodSandboxResponse
		if a, err = c.cri.RunPodSandbox(ctx, &v1.RunPodSandboxRequest{Config: c.pod}); err == nil {
			c.sid = a.PodSandboxId
		}
	case "create":
		var a *v1.CreateContainerResponse
		if a, err = c.cri.CreateContainer(ctx, &v1.CreateContainerRequest{PodSandboxId: c.sid, Config: c.container, SandboxConfig: c.pod}); err == nil {
			c.cid = a.ContainerId
		}
	case "start":
		_, err = c.cri.StartContainer(ctx, &v1.StartContainerRequest{ContainerId: c.cid})
	case "stop":
		_, err = c.cri.StopContainer(ctx, &v1.StopContainerRequest{ContainerId: c.cid, Timeout: 10})
	case "rm":
		_, err = c.cri.RemoveContainer(ctx, &v1.RemoveContainerRequest{ContainerId: c.cid})
	case "stopp":
		_, err = c.cri.StopPodSandbox(ctx, &v1.StopPodSandboxRequest{PodSandboxId: c.sid})
	case "rmp":
		_, err = c.cri.RemovePodSandbox(ctx, &v1.RemovePodSandboxRequest{PodSandboxId: c.sid})
	default:
		err = fmt.Errorf("no call %s", name)
	}
	return err
}

// truth checks that every container's state is what its processes say, within the time that a recovery may take.
func (w *world) truth(what string) {
	w.Helper()
	var lie string
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(30 * time.Millisecond) {
		if lie = w.lie(); lie == "" {
			return
		}
	}
	w.Errorf("%s: %s", what, lie)
}

func (w *world) lie() string {
	ctx, cancel := limited()
	defer cancel()
	list, err := w.cri.ListContainers(ctx, &v1.ListContainersRequest{})
	if err != nil {
		return "ListContainers: " + err.Error()
	}
	known, processes := map[string]bool{}, w.processes()
	for _, c := range list.Containers {
		name := "marked-" + c.Metadata.Name
		known[name] = true
		runs := false
		for _, p := range processes {
			runs = runs || strings.HasPrefix(p.command, "/bin/sh -c") && strings.HasSuffix(p.command, " "+name)
		}
		if said := c.State == v1.ContainerState_CONTAINER_RUNNING; said != runs {
			return fmt.Sprintf("container %s is said to be %s, and its process is there: %t", c.Id, c.State, runs)
		}
		st, err := w.cri.ContainerStatus(ctx, &v1.ContainerStatusRequest{ContainerId: c.Id})
		if err != nil {
			return "ContainerStatus: " + err.Error()
		}
		if s := st.Status; s.State == v1.ContainerState_CONTAINER_EXITED && (s.FinishedAt == 0 || s.Reason == "") {
			return fmt.Sprintf("container %s is EXITED without a time or a reason: %v", c.Id, s)
		}
	}
	for _, p := range processes {
		if i := strings.LastIndex(p.command, " marked-"); i > 0 && strings.HasPrefix(p.command, "/bin/sh -c") && !known[p.command[i+1:]] {
			return "a process of no container: " + p.command
		}
	}
	return ""
}

// removeAll removes every pod, and checks that nothing is listed then.
func (w *world) removeAll(what string) {
	w.Helper()
	ctx, cancel := limited()
	defer cancel()
	pods, err := w.cri.ListPodSandbox(ctx, &v1.ListPodSandboxRequest{})
	if err != nil {
		w.Errorf("%s: ListPodSandbox: %v", what, err)
		return
	}
	for _, p := range pods.Items {
		if _, err := w.cri.RemovePodSandbox(ctx, &v1.RemovePodSandboxRequest{PodSandboxId: p.Id}); err != nil {
			w.Errorf("%s: RemovePodSandbox: %v", what, err)
		}
	}
	pods, perr := w.cri.ListPodSandbox(ctx, &v1.ListPodSandboxRequest{})
	ctrs, cerr := w.cri.ListContainers(ctx, &v1.ListContainersRequest{})
	if perr != nil || cerr != nil || len(pods.Items) != 0 || len(ctrs.Containers) != 0 {
		w.Errorf("%s: after the removal of all: %v %v, %v %v", what, pods, perr, ctrs, cerr)
	}
}

func (w *world) mustPull() {
	w.Helper()
	if err := (&cycle{world: w}).call("pull"); err != nil {
		w.Errorf("pull: %v", err)
	}
}
