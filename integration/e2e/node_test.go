package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/integration/daemontest"
)

// Pods that are there to work on the node: its processes are seen, and a mount reaches it.
func TestPodsForTheNode(t *testing.T) {
	d := started(t, daemontest.Options{})
	t.Run("its processes", func(t *testing.T) {
		p, c := d.PodConfig("hostpid"), d.ContainerConfig("main", daemontest.Sleep)
		p.Linux.SecurityContext.NamespaceOptions.Pid = node
		c.Linux.SecurityContext.NamespaceOptions.Pid = node
		id := d.RunContainer(d.RunPod(p), p, c)
		if got := d.Exec(id, "readlink "+target+"pid"); got != sh(t, "readlink "+target+"pid") {
			t.Errorf("PID namespace %s", got)
		}
		want(t, "ps", d.Exec(id, "ps"), "runtimed-monitor", d.ConfigFile)
		// Its children end with it, though no PID namespace does.
		d.Exec(id, "sleep 5555 & sleep 0.1")
		if _, err := d.Conn().Runtime.StopContainer(daemontest.Ctx(t), &v1.StopContainerRequest{ContainerId: id}); err != nil {
			t.Fatal(err)
		}
		for _, q := range daemontest.Processes() {
			if strings.Join(q.Args, " ") == "sleep 5555" {
				t.Error("a process of a stopped container runs on")
			}
		}
	})
	t.Run("its mounts", func(t *testing.T) {
		host := filepath.Join(d.Dir, "propagated")
		sh(t, "mkdir "+host+" && mount --bind "+host+" "+host+" && mount --make-shared "+host)
		t.Cleanup(func() {
			unix.Unmount(host+"/inner", unix.MNT_DETACH)
			unix.Unmount(host, unix.MNT_DETACH)
			os.RemoveAll(host)
		})
		p, c := d.PodConfig("mounts"), d.ContainerConfig("main", daemontest.Sleep)
		p.Linux.SecurityContext.Privileged, c.Linux.SecurityContext.Privileged = true, true
		c.Mounts = []*v1.Mount{{HostPath: host, ContainerPath: "/host", Propagation: v1.MountPropagation_PROPAGATION_BIDIRECTIONAL}}
		pod := d.RunPod(p)
		id := d.RunContainer(pod, p, c)
		d.Exec(id, "mkdir /host/inner && mount -t tmpfs inner /host/inner && echo from inside >/host/inner/file")
		if b, err := os.ReadFile(host + "/inner/file"); string(b) != "from inside\n" {
			t.Errorf("a mount does not reach the node: %q, %v", b, err)
		}
		c = d.ContainerConfig("slave", daemontest.Sleep)
		c.Mounts = []*v1.Mount{{HostPath: host, ContainerPath: "/host", Propagation: v1.MountPropagation_PROPAGATION_HOST_TO_CONTAINER}}
		slave := d.RunContainer(pod, p, c)
		sh(t, "mkdir "+host+"/late && mount -t tmpfs late "+host+"/late && touch "+host+"/late/seen")
		d.Exec(slave, "test -e /host/late/seen")
		sh(t, "umount "+host+"/late")
	})
}

// An image that a container uses can be removed, and its layers go with the container.
func TestImageInUse(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	image := d.Pull()
	_, id, _ := oneContainer(t, d, "user")
	if _, err := d.Conn().Images.RemoveImage(daemontest.Ctx(t), &v1.RemoveImageRequest{Image: &v1.ImageSpec{Image: image}}); err != nil {
		t.Logf("removal of an image in use: %v", err)
	}
	if got := d.Exec(id, "cat /data/seed"); got != "from the image" {
		t.Errorf("a running container lost its image: %q", got)
	}
	d.Kill9()
	d.Restart()
	if got := d.Exec(id, "cat /data/seed"); got != "from the image" {
		t.Errorf("a running container lost its image: %q", got)
	}
	d.RemoveAll()
	if _, err := d.Conn().Images.RemoveImage(daemontest.Ctx(t), &v1.RemoveImageRequest{Image: &v1.ImageSpec{Image: image}}); err != nil {
		t.Error(err)
	}
	daemontest.Eventually(t, 10*time.Second, func() error {
		if left, _ := os.ReadDir(d.Layout.Layers()); len(left) > 0 {
			return fmt.Errorf("%d layers are left", len(left))
		}
		return nil
	})
}

// Without the explicit key no image is taken.
func TestNoTrustNoImage(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{NoStart: true})
	b, err := os.ReadFile(d.ConfigFile)
	if err == nil {
		err = os.WriteFile(d.ConfigFile, []byte(strings.Replace(string(b), "mode = \"off\"", "", 1)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	d.Restart()
	_, err = d.Conn().Images.PullImage(daemontest.Ctx(t), &v1.PullImageRequest{Image: &v1.ImageSpec{Image: d.Image}})
	if err == nil || !strings.Contains(err.Error(), "trust.mode") || status.Code(err) == codes.Internal {
		t.Errorf("%v", err)
	}
	if n := d.Registry.Count("/blobs/"); n != 0 {
		t.Errorf("%d blobs were fetched of an image that nobody trusts", n)
	}
}

// A second daemon on the same directories is refused, and told who holds them.
func TestSecondDaemon(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	o := d.CLI("serve")
	if o.Code == 0 || !strings.Contains(o.Stderr, fmt.Sprint(d.PID())) {
		t.Errorf("%+v", o)
	}
}

// Thirty pods at once come up, each with an address and ids of its own, and go at once.
func TestManyAtOnce(t *testing.T) {
	d := started(t, daemontest.Options{})
	const pods = 30
	var all sync.WaitGroup
	var mu sync.Mutex
	maps, addresses, ids := map[string]bool{}, map[string]bool{}, make([]string, pods)
	for i := range pods {
		all.Go(func() {
			pod, id, _ := oneContainer(t, d, fmt.Sprint("many", i))
			uids, ip := d.Exec(id, "cat /proc/self/uid_map"), d.Exec(id, "ip -o -4 addr show eth0 | awk '{print $4}'")
			mu.Lock()
			defer mu.Unlock()
			ids[i], maps[uids], addresses[ip] = pod, true, true
		})
	}
	all.Wait()
	if len(maps) != pods || len(addresses) != pods {
		t.Errorf("%d pods have %d user ranges and %d addresses", pods, len(maps), len(addresses))
	}
	for _, id := range ids {
		all.Go(func() { d.RemovePod(id) })
	}
	all.Wait()
}
