package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/integration/daemontest"
)

const (
	node   = v1.NamespaceMode_NODE
	podNS  = v1.NamespaceMode_POD
	ownNS  = v1.NamespaceMode_CONTAINER
	target = "/proc/self/ns/"
)

// Pods that ask for something else than the default.
func TestShapesOfPods(t *testing.T) {
	d := started(t, daemontest.Options{})
	shape := func(name string, change func(*v1.PodSandboxConfig, *v1.ContainerConfig)) string {
		t.Helper()
		p, c := d.PodConfig(name), d.ContainerConfig("main", daemontest.Sleep)
		change(p, c)
		return d.RunContainer(d.RunPod(p), p, c)
	}
	here := func(kind string) string { return sh(t, "readlink "+target+kind) }

	t.Run("shared PID namespace", func(t *testing.T) {
		p := d.PodConfig("sharedpid")
		p.Linux.SecurityContext.NamespaceOptions.Pid = podNS
		pod := d.RunPod(p)
		var ids []string
		for _, name := range []string{"a", "b"} {
			c := d.ContainerConfig(name, "sleep 1234 & "+daemontest.Sleep)
			c.Linux.SecurityContext.NamespaceOptions.Pid = podNS
			ids = append(ids, d.RunContainer(pod, p, c))
		}
		if a, b := d.Exec(ids[0], "readlink "+target+"pid"), d.Exec(ids[1], "readlink "+target+"pid"); a != b || a == here("pid") {
			t.Errorf("PID namespaces %s and %s, the node's %s", a, b, here("pid"))
		}
		want(t, "ps", d.Exec(ids[0], "ps"), "sleep 1234", "runtimed-init")
		if got := d.Exec(ids[0], "ps -o args | grep -c '^sleep 1234$'"); got != "2" {
			t.Errorf("%s sleepers are seen, not both containers' own", got)
		}
		// What the first program leaves behind ends with its container, and the pod's init reaps it.
		if _, err := d.Conn().Runtime.StopContainer(daemontest.Ctx(t), &v1.StopContainerRequest{ContainerId: ids[0]}); err != nil {
			t.Fatal(err)
		}
		if got := d.Exec(ids[1], "ps -o args | grep -c '^sleep 1234$'; ps -o stat | grep -c Z || true"); got != "1\n0" {
			t.Errorf("after the neighbour's end: %q", got)
		}
	})
	t.Run("host network", func(t *testing.T) {
		id := shape("hostnet", func(p *v1.PodSandboxConfig, c *v1.ContainerConfig) {
			p.Linux.SecurityContext.NamespaceOptions.Network = node
			c.Linux.SecurityContext.NamespaceOptions.Network = node
		})
		if got := d.Exec(id, "readlink "+target+"net"); got != here("net") {
			t.Errorf("network namespace %s, the node's is %s", got, here("net"))
		}
		want(t, "ip link", d.Exec(id, "ip -o link"), d.Bridge)
		if got := strings.Fields(d.Exec(id, "cat /proc/self/uid_map")); got[1] != "0" {
			t.Errorf("a pod on the node's network has ids of its own: %v", got)
		}
		want(t, "its status", d.Exec(id, "cat /proc/self/status"), "Seccomp:\t2")
	})
	t.Run("privileged", func(t *testing.T) {
		id := shape("privileged", func(p *v1.PodSandboxConfig, c *v1.ContainerConfig) {
			p.Linux.SecurityContext.Privileged = true
			c.Linux.SecurityContext.Privileged = true
		})
		s := d.Exec(id, "cat /proc/self/status")
		if field(s, "Seccomp:") != "0" || field(s, "CapEff:") != field(sh(t, "cat /proc/self/status"), "CapEff:") {
			t.Errorf("a privileged container has less than the node's root:\n%s", s)
		}
		d.Exec(id, "mount -t tmpfs x /tmp && ls /dev/vda* /dev/loop* >/dev/null 2>&1 || ls /dev/kmsg; test -w /proc/sys/kernel/panic")
	})
	t.Run("node's users", func(t *testing.T) {
		id := shape("node", func(p *v1.PodSandboxConfig, c *v1.ContainerConfig) {
			p.Linux.SecurityContext.NamespaceOptions.UsernsOptions = &v1.UserNamespace{Mode: node}
			c.Linux.SecurityContext.NamespaceOptions.UsernsOptions = &v1.UserNamespace{Mode: node}
		})
		if got := d.Exec(id, "readlink "+target+"user"); got != here("user") {
			t.Errorf("user namespace %s, the node's is %s", got, here("user"))
		}
		want(t, "its status", d.Exec(id, "cat /proc/self/status"), "Seccomp:\t2", "CapEff:\t"+defaultCaps)
	})
	t.Run("explicit mapping", func(t *testing.T) {
		maps := []*v1.IDMapping{{HostId: 2000000, ContainerId: 0, Length: 65536}}
		users := &v1.UserNamespace{Mode: podNS, Uids: maps, Gids: maps}
		id := shape("mapped", func(p *v1.PodSandboxConfig, c *v1.ContainerConfig) {
			p.Linux.SecurityContext.NamespaceOptions.UsernsOptions = users
			c.Linux.SecurityContext.NamespaceOptions.UsernsOptions = users
		})
		if got := uidMap(t, d.Exec(id, "cat /proc/self/uid_map")); got != [3]int{0, 2000000, 65536} {
			t.Errorf("uid map %v", got)
		}
		if got := d.Exec(id, "stat -c %u:%g /bin/busybox"); got != "0:0" {
			t.Errorf("the image is %s's", got)
		}
		r, err := d.Conn().Runtime.ListPodSandbox(daemontest.Ctx(t), &v1.ListPodSandboxRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range r.Items {
			if p.Metadata.Name != "mapped" {
				continue
			}
			c := d.ContainerConfig("privileged", "true")
			c.Linux.SecurityContext.Privileged = true
			if _, err := d.Conn().Runtime.CreateContainer(daemontest.Ctx(t), &v1.CreateContainerRequest{PodSandboxId: p.Id, Config: c, SandboxConfig: d.PodConfig("mapped")}); err == nil {
				t.Error("a privileged container was let into a pod that asked for its user namespace")
			}
		}
	})
}

// Containers that ask for something else than the default.
func TestShapesOfContainers(t *testing.T) {
	d := started(t, daemontest.Options{})
	p := d.PodConfig("shapes")
	pod := d.RunPod(p)
	shape := func(name string, change func(*v1.ContainerConfig)) string {
		t.Helper()
		c := d.ContainerConfig(name, daemontest.Sleep)
		change(c)
		return d.RunContainer(pod, p, c)
	}
	t.Run("read-only root", func(t *testing.T) {
		id := shape("ro", func(c *v1.ContainerConfig) { c.Linux.SecurityContext.ReadonlyRootfs = true })
		if o := d.Crictl("exec", "-s", id, "touch", "/x"); o.Code == 0 || !strings.Contains(o.Stderr, "Read-only file system") {
			t.Errorf("touch /x: %+v", o)
		}
		d.Exec(id, "touch /dev/shm/x")
	})
	t.Run("user by name", func(t *testing.T) {
		id := shape("user", func(c *v1.ContainerConfig) { c.Linux.SecurityContext.RunAsUsername = "app" })
		if got := d.Exec(id, "id; touch /home/app/x; echo $HOME"); got != "uid=1000(app) gid=1000(app) groups=1000(app),2000(extra)\n/home/app" {
			t.Error(got)
		}
	})
	t.Run("user and group by id", func(t *testing.T) {
		id := shape("ids", func(c *v1.ContainerConfig) {
			c.Linux.SecurityContext.RunAsUser, c.Linux.SecurityContext.RunAsGroup = &v1.Int64Value{Value: 7}, &v1.Int64Value{Value: 8}
			c.Linux.SecurityContext.SupplementalGroups = []int64{9}
			c.WorkingDir, c.Envs = "/data", []*v1.KeyValue{{Key: "WORD", Value: []byte("one two")}}
		})
		if got := d.Exec(id, "id -u; id -g; id -G; pwd; echo $WORD, $FROM_IMAGE; grep CapEff /proc/self/status"); got !=
			"7\n8\n8 9\n/data\none two, yes\nCapEff:\t0000000000000000" {
			t.Error(got)
		}
	})
	t.Run("tty", func(t *testing.T) {
		c := d.ContainerConfig("tty", "test -t 0 && test -t 1 && echo a terminal; ls -l /dev/console; "+daemontest.Sleep)
		c.Tty, c.Stdin = true, true
		id := d.RunContainer(pod, p, c)
		daemontest.Eventually(t, daemontest.Patience, func() error {
			b, err := os.ReadFile(filepath.Join(p.LogDirectory, "tty.log"))
			if err == nil && !strings.Contains(string(b), "/dev/console") {
				err = os.ErrNotExist
			}
			return err
		})
		b, _ := os.ReadFile(filepath.Join(p.LogDirectory, "tty.log"))
		want(t, "the log", string(b), " stdout F a terminal\r\n")
		want(t, "its environment", d.Exec(id, "tr '\\0' '\\n' </proc/1/environ"), "TERM=xterm")
	})
	t.Run("volumes", func(t *testing.T) { volumes(t, d, shape) })
	t.Run("device", func(t *testing.T) {
		id := shape("device", func(c *v1.ContainerConfig) {
			c.Devices = []*v1.Device{{HostPath: "/dev/null", ContainerPath: "/dev/blackhole", Permissions: "rw"}}
		})
		d.Exec(id, "test -c /dev/blackhole; echo x >/dev/blackhole")
		if got := strings.Fields(d.Exec(id, "cat /proc/self/uid_map")); got[1] != "0" {
			t.Errorf("a container with a device has ids of its own: %v", got)
		}
	})
	t.Run("image volume", func(t *testing.T) {
		image := daemontest.Busybox(t)
		image.Config.Volumes = map[string]struct{}{"/data": {}}
		d.Registry.MustPush(t, "volumes:1", image)
		ref := d.Registry.Ref("volumes:1")
		if _, err := d.Conn().Images.PullImage(daemontest.Ctx(t), &v1.PullImageRequest{Image: &v1.ImageSpec{Image: ref}}); err != nil {
			t.Fatal(err)
		}
		id := shape("volume", func(c *v1.ContainerConfig) {
			c.Image.Image, c.Linux.SecurityContext.ReadonlyRootfs = ref, true
		})
		if got := d.Exec(id, "stat -c '%U %a' /data /data/seed; echo more >>/data/seed; cat /data/seed"); got != "root 755\nroot 640\nfrom the image\nmore" {
			t.Error(got)
		}
		if _, err := d.Conn().Runtime.RemoveContainer(daemontest.Ctx(t), &v1.RemoveContainerRequest{ContainerId: id}); err != nil {
			t.Error(err)
		}
		if _, err := d.Conn().Images.RemoveImage(daemontest.Ctx(t), &v1.RemoveImageRequest{Image: &v1.ImageSpec{Image: ref}}); err != nil {
			t.Error(err)
		}
	})
}

// volumes: a directory of the node, writable, read-only and behind a symbolic link, is root's as seen inside.
func volumes(t *testing.T, d *daemontest.Daemon, shape func(string, func(*v1.ContainerConfig)) string) {
	t.Helper()
	host := filepath.Join(d.Dir, "volume")
	sh(t, "mkdir -p "+host+" && echo from the node >"+host+"/file && chown 1000:1000 "+host+"/file && ln -s volume "+host+".link")
	t.Cleanup(func() { os.RemoveAll(host); os.Remove(host + ".link") })
	id := shape("volumes", func(c *v1.ContainerConfig) {
		c.Mounts = []*v1.Mount{
			{HostPath: host, ContainerPath: "/rw"}, {HostPath: host, ContainerPath: "/ro", Readonly: true},
			{HostPath: host + ".link", ContainerPath: "/deep/in/link"},
		}
	})
	if got := d.Exec(id, "stat -c '%u:%g' /rw /rw/file /ro/file; cat /deep/in/link/file; touch /rw/new"); got != "0:0\n1000:1000\n1000:1000\nfrom the node" {
		t.Error(got)
	}
	if got := sh(t, "stat -c '%u:%g' "+host+"/new"); got != "0:0" {
		t.Errorf("a file that root made inside is %s's on the node", got)
	}
	if o := d.Crictl("exec", "-s", id, "touch", "/ro/x"); o.Code == 0 || !strings.Contains(o.Stderr, "Read-only file system") {
		t.Errorf("touch /ro/x: %+v", o)
	}
	r := d.Status(id)
	if len(r.Mounts) != 3 || r.Mounts[2].HostPath != host+".link" {
		t.Errorf("the status does not show the mounts as they were asked for: %v", r.Mounts)
	}
}
