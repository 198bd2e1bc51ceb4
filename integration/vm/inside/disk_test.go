package inside

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/integration/daemontest"
	"github.com/runtimed/runtimed/integration/registrytest"
)

// TestDiskFull: on a full disk a pull, a pod and a container fail with a word that says so and leave nothing; what runs is
// seen, stopped and removed; and when there is room again everything works.
func TestDiskFull(t *testing.T) {
	reg := registrytest.New(t, registrytest.Options{})
	reg.MustPush(t, "busybox:1", daemontest.Busybox(t))
	noise := make([]byte, 24<<20)
	f, err := os.Open("/dev/urandom")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Read(noise); err != nil {
		t.Fatal(err)
	}
	reg.MustPush(t, "large:1", registrytest.Image{Layers: []registrytest.Layer{{Files: []registrytest.File{{Name: "noise", Mode: 0o644, Body: noise}}}}})
	d := daemontest.Start(t, daemontest.Options{Registry: reg, NoStart: true})
	sh(t, fmt.Sprintf("truncate -s 40M /var/disk && mkfs.ext4 -q -m 0 /var/disk && mkdir -p %[1]s && mount -o loop /var/disk %[1]s", d.Layout.Root))
	t.Cleanup(func() { os.Remove("/var/disk") })
	d.Restart()
	d.Pull()
	p := d.PodConfig("before")
	pod := d.RunPod(p)
	running := d.RunContainer(pod, p, d.ContainerConfig("main", daemontest.Sleep))

	_, err = d.Conn().Images.PullImage(daemontest.Ctx(t), &v1.PullImageRequest{Image: &v1.ImageSpec{Image: reg.Ref("large:1")}})
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("pull of more than fits: %v", err)
	}
	if o := d.Crictl("images", "-q"); len(strings.Fields(o.Stdout)) != 1 {
		t.Errorf("images after the pull that failed:\n%s", o.Stdout)
	}
	for _, dir := range []string{"ingest", "staging"} {
		if left, _ := filepath.Glob(filepath.Join(d.Layout.Images(), dir, "*")); len(left) > 0 {
			t.Errorf("the pull left %v", left)
		}
	}

	sh(t, fmt.Sprintf("dd if=/dev/zero of=%[1]s/ballast bs=64k 2>/dev/null || true; dd if=/dev/zero of=%[1]s/ballast2 bs=1k 2>/dev/null || true", d.Layout.Root))
	full := d.PodConfig("full")
	if err := os.MkdirAll(full.LogDirectory, 0o755); err != nil {
		t.Fatal(err)
	}
	if r, err := d.Conn().Runtime.RunPodSandbox(daemontest.Ctx(t), &v1.RunPodSandboxRequest{Config: full}); err == nil {
		t.Errorf("a pod is recorded on a full disk: %s", r.PodSandboxId)
	} else if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a pod on a full disk: %v", err)
	}
	if got := d.Status(running).State; got != v1.ContainerState_CONTAINER_RUNNING {
		t.Errorf("what ran before is %v", got)
	}
	d.Kill9()
	d.Restart() // on the full disk
	if got := d.Status(running).State; got != v1.ContainerState_CONTAINER_RUNNING {
		t.Errorf("what ran before is %v for a daemon that started on a full disk", got)
	}
	d.RemovePod(pod)

	sh(t, fmt.Sprintf("rm %[1]s/ballast %[1]s/ballast2", d.Layout.Root))
	again := d.PodConfig("after")
	pod = d.RunPod(again)
	d.RunContainer(pod, again, d.ContainerConfig("main", daemontest.Sleep))
	d.RemovePod(pod)
	d.RemoveAll()
}
