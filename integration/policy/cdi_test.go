package policy

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/integration/daemontest"
)

// vendor is a CDI file with a device that is the node's /dev/zero under another name, a file, a variable, and hooks on the
// node and in the container.
const vendor = `cdiVersion: "0.7.0"
kind: vendor.example/gpu
containerEdits:
  env: ["VENDOR=example"]
devices:
- name: one
  containerEdits:
    env: ["GPU=1"]
    deviceNodes: [{path: /dev/gpu1, hostPath: /dev/zero, permissions: rw}]
    mounts: [{hostPath: %[1]s/lib.so, containerPath: /usr/lib/gpu.so, options: [ro, nosuid, nodev, bind]}]
    additionalGids: [44]
- name: hooked
  containerEdits:
    hooks:
    - hookName: createRuntime
      path: /bin/sh
      args: [sh, -c, 'cat >%[1]s/state.json; cp "$(sed "s/.*\"bundle\":\"\([^\"]*\)\".*/\1/" %[1]s/state.json)/config.json" %[1]s/']
    - {hookName: createContainer, path: /bin/sh, args: [sh, -c, "cat >%[1]s/second.json"]}
    - {hookName: startContainer, path: /bin/sh, args: [sh, -c, "echo inside >/tmp/hook"]}
- name: inner
  containerEdits:
    hooks: [{hookName: startContainer, path: /bin/sh, args: [sh, -c, "echo inside >/tmp/hook"]}]
- name: failing
  containerEdits:
    hooks: [{hookName: createRuntime, path: /bin/sh, args: [sh, -c, "echo no such card >&2; exit 3"]}]
- name: endless
  containerEdits:
    hooks: [{hookName: createRuntime, path: /bin/sleep, args: [sleep, "5000"], timeout: 1}]
`

// devices is a daemon with the file, and where it is.
func devices(t *testing.T, policy string) (*daemontest.Daemon, string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"vendor.yaml": fmt.Sprintf(vendor, dir), "lib.so": "library\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return started(t, policy+fmt.Sprintf("[cdi]\nspec_dirs = [%q]\n", dir)), dir
}

func asking(c *v1.ContainerConfig, names ...string) *v1.ContainerConfig {
	for _, n := range names {
		c.CDIDevices = append(c.CDIDevices, &v1.CDIDevice{Name: "vendor.example/gpu=" + n})
	}
	return c
}

func TestCDIDevices(t *testing.T) {
	d, dir := devices(t, "")
	id, p := pod(d, "cdi", nil)
	const look = "head -c4 /dev/gpu1 | od -An -tx1; cat /usr/lib/gpu.so; echo $VENDOR $GPU; id -G"
	byNote := d.ContainerConfig("by-annotation", look)
	byNote.Annotations = map[string]string{"cdi.k8s.io/vendor_gpu": "vendor.example/gpu=one"}
	for _, c := range []*v1.ContainerConfig{asking(d.ContainerConfig("by-field", look), "one"), byNote} {
		got, s := output(t, d, id, p, c)
		if got != "00 00 00 00\nlibrary\nexample 1\n0 44" {
			t.Errorf("%s: %q", c.Metadata.Name, got)
		}
		r, err := d.Conn().Runtime.ContainerStatus(daemontest.Ctx(t), &v1.ContainerStatusRequest{ContainerId: s.Id, Verbose: true})
		if err != nil || !strings.Contains(r.Info["info"], "CDI_devices") {
			t.Errorf("the record does not say why it has the node's ids: %v, %v", r.GetInfo(), err)
		}
	}
	if got, s := output(t, d, id, p, asking(d.ContainerConfig("hooked", "cat /tmp/hook"), "hooked")); got != "inside" {
		t.Errorf("the hook in the container left %q, it ended with %d: %s", got, s.ExitCode, s.Message)
	}
	for _, name := range []string{"state.json", "second.json", "config.json"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !strings.Contains(string(b), "{") {
			t.Errorf("a hook was not told: %s: %q, %v", name, b, err)
		}
	}
	for name, says := range map[string]string{"failing": "no such card", "endless": "hook"} {
		ctr := d.Create(id, p, asking(d.ContainerConfig(name, "true"), name))
		_, err := d.Conn().Runtime.StartContainer(daemontest.Ctx(t), &v1.StartContainerRequest{ContainerId: ctr})
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", name, err)
		}
		if s := d.Status(ctr); s.State != v1.ContainerState_CONTAINER_EXITED || s.Reason != "StartError" {
			t.Errorf("%s: %v %s", name, s.State, s.Reason)
		}
	}
}

// A pod that asked for users of its own keeps them: it sees the node's devices, and opens those that let everybody in.
func TestDevicesWithUsersOfTheirOwn(t *testing.T) {
	d, _ := devices(t, cri)
	dir := filepath.Join(d.Dir, "devices")
	sh(t, "mkdir "+dir+" && mknod -m 666 "+dir+"/open c 1 5 && mknod -m 600 "+dir+"/closed c 1 5 && mknod -m 666 "+dir+"/full c 1 7")
	t.Cleanup(func() { os.RemoveAll(dir) })
	maps := []*v1.IDMapping{{HostId: 3000000, ContainerId: 0, Length: 65536}}
	id, p := pod(d, "asked", &v1.UserNamespace{Mode: v1.NamespaceMode_POD, Uids: maps, Gids: maps})
	c := asking(d.ContainerConfig("main", daemontest.Sleep), "one", "inner")
	c.Linux.SecurityContext.NamespaceOptions.UsernsOptions = p.Linux.SecurityContext.NamespaceOptions.UsernsOptions
	c.Devices = []*v1.Device{
		{HostPath: dir + "/open", ContainerPath: "/dev/open", Permissions: "r"}, {HostPath: dir + "/closed", ContainerPath: "/dev/closed", Permissions: "rw"},
		// The node has another device at this path: which one is shown is the request's word.
		{HostPath: dir + "/full", ContainerPath: "/dev/kmsg", Permissions: "rw"},
	}
	ctr := d.RunContainer(id, p, c)
	for script, want := range map[string]string{
		"cat /proc/self/uid_map | tr -s ' '":                                            " 0 3000000 65536",
		"head -c2 /dev/open | od -An -tx1":                                              " 00 00",
		"head -c1 /dev/closed 2>/dev/null || echo no":                                   "no",
		"echo x 2>&1 >/dev/kmsg | grep -o 'No space'; head -c1 /dev/kmsg | od -An -tx1": "No space\n 00",
		"head -c4 /dev/gpu1 | od -An -tx1; cat /usr/lib/gpu.so; cat /tmp/hook":          " 00 00 00 00\nlibrary\ninside",
		"stat -c %u /dev/open /dev/gpu1":                                                "65534\n65534",
	} {
		if got := d.Exec(ctr, script); got != want {
			t.Errorf("%s: %q", script, got)
		}
	}
	c = d.ContainerConfig("standard", "true")
	c.Devices = []*v1.Device{{HostPath: dir + "/open", ContainerPath: "/dev/null", Permissions: "rw"}}
	refused(t, d, id, c, codes.InvalidArgument, "standard device")
}

func TestCDIRefused(t *testing.T) {
	d, dir := devices(t, cri)
	id, p := pod(d, "cdi", nodeUsers)
	refused(t, d, id, asking(d.ContainerConfig("unknown", "true"), "two"), codes.NotFound, "vendor.example/gpu=two")
	refused(t, d, id, asking(d.ContainerConfig("nonsense", "true"), "a b"), codes.InvalidArgument, "CDI_devices[0]")
	// A file that somebody else can change may say anything by the time it is read.
	created := d.Create(id, p, asking(d.ContainerConfig("later", "true"), "one"))
	if err := os.Chmod(filepath.Join(dir, "vendor.yaml"), 0o666); err != nil {
		t.Fatal(err)
	}
	refused(t, d, id, asking(d.ContainerConfig("open-file", "true"), "one"), codes.FailedPrecondition, "vendor.yaml")
	if _, err := d.Conn().Runtime.StartContainer(daemontest.Ctx(t), &v1.StartContainerRequest{ContainerId: created}); err == nil {
		t.Error("started by a file that others can write")
	}
}
