package inside

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/cmd/runtimed/client"
	"github.com/runtimed/runtimed/integration/daemontest"
	"github.com/runtimed/runtimed/integration/registrytest"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// A machine that loses power, again and again, on one disk: each boot checks what the last one left, works, and is cut off
// at a moment of chance. RUNTIMED_VM_CUT=no is the last boot, which only checks.
const (
	powerDir = "/var/lib/power"
	cutFile  = "/vm/job/die"
)

// ready is what had been answered before the cut, kept outside of the machine's disk.
type ready struct {
	Boot   int
	Images []string // ids of pulls that had returned
}

type powerWorld struct {
	*testing.T
	layout spec.Layout
	conn   *client.Client
	said   string // file outside of the machine
	ready  ready
}

func TestPower(t *testing.T) {
	w := &powerWorld{T: t, layout: spec.Layout{Root: powerDir + "/root", Run: "/run/power", Netns: "/run/power-netns"}, said: os.Getenv("RUNTIMED_VM_SAID")}
	if w.said == "" {
		t.Fatal("RUNTIMED_VM_SAID names no file")
	}
	if b, err := os.ReadFile(w.said); err == nil {
		if err := json.Unmarshal(b, &w.ready); err != nil {
			t.Fatal(err)
		}
	}
	w.serve()
	if w.ready.Boot > 0 {
		w.check()
	}
	if t.Failed() || os.Getenv("RUNTIMED_VM_CUT") == "no" {
		return
	}
	w.ready.Boot++
	w.work()
}

func (w *powerWorld) serve() {
	w.Helper()
	sh(w.T, "mkdir -p "+powerDir+"/logs")
	config := fmt.Sprintf("version = 1\nroot = %q\nrun = %q\nnetns_dir = %q\nlibexec = %q\n[trust]\nmode = \"off\"\n", w.layout.Root, w.layout.Run, w.layout.Netns, os.Getenv(daemontest.ReadyBin))
	if err := os.WriteFile("/run/power.toml", []byte(config), 0o600); err != nil {
		w.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(os.Getenv(daemontest.ReadyBin), "runtimed"), "--config", "/run/power.toml", "serve")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Start(); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	daemontest.Eventually(w.T, time.Minute, func() (err error) {
		if w.conn != nil {
			w.conn.Close()
		}
		if w.conn, err = client.Dial(w.layout.Socket()); err != nil {
			return err
		}
		_, err = w.conn.Runtime.Version(daemontest.Ctx(w.T), &v1.VersionRequest{})
		return err
	})
}

// check: nothing runs, everything can be removed, images that were answered for are there and run.
func (w *powerWorld) check() {
	ctx := daemontest.Ctx(w.T)
	containers, err := w.conn.Runtime.ListContainers(ctx, &v1.ListContainersRequest{})
	if err != nil {
		w.Fatal(err)
	}
	for _, c := range containers.Containers {
		if c.State != v1.ContainerState_CONTAINER_EXITED {
			w.Errorf("boot %d: container %s is %v", w.ready.Boot, c.Id, c.State)
		}
	}
	pods, err := w.conn.Runtime.ListPodSandbox(ctx, &v1.ListPodSandboxRequest{})
	if err != nil {
		w.Fatal(err)
	}
	for _, p := range pods.Items {
		if p.State != v1.PodSandboxState_SANDBOX_NOTREADY {
			w.Errorf("boot %d: sandbox %s is %v", w.ready.Boot, p.Id, p.State)
		}
		if _, err := w.conn.Runtime.StopPodSandbox(ctx, &v1.StopPodSandboxRequest{PodSandboxId: p.Id}); err != nil {
			w.Errorf("boot %d: stop %s: %v", w.ready.Boot, p.Id, err)
		}
		if _, err := w.conn.Runtime.RemovePodSandbox(ctx, &v1.RemovePodSandboxRequest{PodSandboxId: p.Id}); err != nil {
			w.Errorf("boot %d: remove %s: %v", w.ready.Boot, p.Id, err)
		}
	}
	left, _ := filepath.Glob(w.layout.Sandboxes() + "/*")
	if len(left) > 0 {
		w.Errorf("boot %d: records that nobody lists: %v", w.ready.Boot, left)
	}
	set, _ := filepath.Glob(w.layout.Root + "/quarantine/*")
	w.Logf("boot %d: %d sandboxes and %d containers were there, %d records set aside so far, %d images to be there", w.ready.Boot, len(pods.Items), len(containers.Containers), len(set), len(w.ready.Images))
	for i, image := range w.ready.Images {
		w.run(fmt.Sprintf("check-%d", i), image)
	}
}

// run runs a pod with one container of the image until it sleeps.
func (w *powerWorld) run(name, image string) (pod string) {
	w.Helper()
	ctx := daemontest.Ctx(w.T)
	config := &v1.PodSandboxConfig{Metadata: &v1.PodSandboxMetadata{Name: name, Namespace: "power", Uid: fmt.Sprint(name, w.ready.Boot)},
		LogDirectory: powerDir + "/logs", Linux: &v1.LinuxPodSandboxConfig{}}
	p, err := w.conn.Runtime.RunPodSandbox(ctx, &v1.RunPodSandboxRequest{Config: config})
	if err != nil {
		w.Errorf("boot %d: pod %s: %v", w.ready.Boot, name, err)
		return ""
	}
	c, err := w.conn.Runtime.CreateContainer(ctx, &v1.CreateContainerRequest{PodSandboxId: p.PodSandboxId, SandboxConfig: config, Config: &v1.ContainerConfig{
		Metadata: &v1.ContainerMetadata{Name: "main"}, Image: &v1.ImageSpec{Image: image}, LogPath: name + ".log",
		Command: []string{"/bin/sh", "-c", "cat /etc/noise* >/dev/null && exec sleep 1000"},
	}})
	if err == nil {
		_, err = w.conn.Runtime.StartContainer(ctx, &v1.StartContainerRequest{ContainerId: c.ContainerId})
	}
	if err != nil {
		w.Errorf("boot %d: container of %s with %s: %v", w.ready.Boot, name, image, err)
	}
	return p.PodSandboxId
}

// work pulls, runs and removes, until the power goes.
func (w *powerWorld) work() {
	after := time.Duration(1500+rand.IntN(6000)) * time.Millisecond
	time.AfterFunc(after, func() { os.WriteFile(cutFile, nil, 0o600) })
	w.Logf("boot %d: the power goes after %v", w.ready.Boot, after)
	reg := registrytest.New(w.T, registrytest.Options{})
	go func() {
		for i := 0; ; i++ {
			pod := w.run(fmt.Sprintf("made-%d", i), w.somePull(reg, i))
			if i%2 == 1 {
				w.conn.Runtime.RemovePodSandbox(daemontest.Ctx(w.T), &v1.RemovePodSandboxRequest{PodSandboxId: pod})
			}
		}
	}()
	time.Sleep(time.Minute)
	w.Error("the power did not go")
}

// somePull pulls an image of its own, and says so outside once it is answered.
func (w *powerWorld) somePull(reg *registrytest.Registry, i int) string {
	image := daemontest.Busybox(w.T)
	noise := strings.Repeat(fmt.Sprintf("%d of %d\n", i, w.ready.Boot), 200000)
	image.Layers = append(image.Layers[:len(image.Layers):len(image.Layers)], registrytest.Layer{Files: []registrytest.File{{Name: "etc/noise", Mode: 0o644, Body: []byte(noise)}}})
	name := fmt.Sprintf("made-%d-%d:1", w.ready.Boot, i)
	reg.MustPush(w.T, name, image)
	r, err := w.conn.Images.PullImage(daemontest.Ctx(w.T), &v1.PullImageRequest{Image: &v1.ImageSpec{Image: reg.Ref(name)}})
	if err != nil {
		w.Fatalf("boot %d: pull: %v", w.ready.Boot, err)
	}
	w.ready.Images = append(w.ready.Images, r.ImageRef)
	b, err := json.Marshal(w.ready)
	if err == nil {
		err = os.WriteFile(w.said+".new", b, 0o600)
	}
	if err == nil {
		err = os.Rename(w.said+".new", w.said)
	}
	if err != nil {
		w.Fatal(err)
	}
	return r.ImageRef
}
