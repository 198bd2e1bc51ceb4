package inside

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/integration/daemontest"
	"github.com/runtimed/runtimed/pkg/security/apparmor"
)

// confined is a container with CAP_SYS_ADMIN in its pod's user namespace: what it may not do then is the profile's doing.
func confined(d *daemontest.Daemon, name string, profile *v1.SecurityProfile) *v1.ContainerConfig {
	c := d.ContainerConfig(name, "cat /proc/self/attr/current; "+daemontest.Sleep)
	c.Linux.SecurityContext.Apparmor = profile
	c.Linux.SecurityContext.Capabilities.AddCapabilities = []string{"SYS_ADMIN"}
	return c
}

func profileOf(typ v1.SecurityProfile_ProfileType, name string) *v1.SecurityProfile {
	return &v1.SecurityProfile{ProfileType: typ, LocalhostRef: name}
}

// load gives the kernel a profile of that name that denies writing below /data.
func load(t *testing.T, name string) {
	t.Helper()
	cmd := exec.Command("apparmor_parser", "--add", "--skip-cache")
	cmd.Stdin = strings.NewReader("profile " + name + " flags=(attach_disconnected) {\n file,\n capability,\n network,\n mount,\n umount,\n signal,\n deny /data/** w,\n}\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("apparmor_parser: %v: %s", err, out)
	}
}

func TestAppArmor(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	d.Pull()
	p := d.PodConfig("guarded")
	pod := d.RunPod(p)
	defer d.RemovePod(pod)
	load(t, "of-a-test")
	const mount, write = "mkdir -p /tmp/m && mount -t tmpfs x /tmp/m", "echo x >/data/new"
	for _, c := range []struct {
		name    string
		profile *v1.SecurityProfile
		want    string // the profile that the container and what is executed in it run under
		can     map[string]bool
	}{
		{"nothing-said", nil, apparmor.Name() + " (enforce)", map[string]bool{mount: false, write: true}},
		{"default", profileOf(v1.SecurityProfile_RuntimeDefault, ""), apparmor.Name() + " (enforce)", map[string]bool{mount: false, write: true}},
		{"unconfined", profileOf(v1.SecurityProfile_Unconfined, ""), "unconfined", map[string]bool{mount: true, write: true}},
		{"localhost", profileOf(v1.SecurityProfile_Localhost, "of-a-test"), "of-a-test (enforce)", map[string]bool{mount: true, write: false}},
	} {
		id := d.RunContainer(pod, p, confined(d, c.name, c.profile))
		if got := d.Exec(id, "cat /proc/1/attr/current"); got != c.want {
			t.Errorf("%s: the container runs under %q, not %q", c.name, got, c.want)
		}
		if got := d.Exec(id, "cat /proc/self/attr/current"); got != c.want {
			t.Errorf("%s: a command runs under %q, not %q", c.name, got, c.want)
		}
		for script, can := range c.can {
			if o := d.Crictl("exec", "-s", id, "/bin/sh", "-c", script); (o.Code == 0) != can {
				t.Errorf("%s: %q ended with %d: %s%s", c.name, script, o.Code, o.Stdout, o.Stderr)
			}
		}
	}
	for _, name := range []string{"nobody-loaded-it", "unconfined"} {
		_, err := d.Conn().Runtime.CreateContainer(daemontest.Ctx(t), &v1.CreateContainerRequest{
			PodSandboxId: pod, SandboxConfig: p, Config: confined(d, "refused", profileOf(v1.SecurityProfile_Localhost, name)),
		})
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("profile %q: %v, want an invalid argument", name, err)
		}
	}
}

// TestAppArmorProfileStays: a daemon that starts again leaves the profile of its containers as it is.
func TestAppArmorProfileStays(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	loaded := func() string {
		dirs, _ := filepath.Glob("/sys/kernel/security/apparmor/policy/profiles/" + apparmor.Name() + ".*")
		if len(dirs) != 1 {
			t.Fatalf("the kernel has %q", dirs)
		}
		b, err := os.ReadFile(dirs[0] + "/sha256")
		if err != nil {
			b, _ = os.ReadFile(dirs[0] + "/sha1")
		}
		info, err := os.Stat(dirs[0])
		if err != nil {
			t.Fatal(err)
		}
		return string(b) + info.ModTime().String()
	}
	before := loaded()
	d.Kill9()
	d.Restart()
	if after := loaded(); after != before {
		t.Errorf("the profile was replaced: %s, before %s", after, before)
	}
}
