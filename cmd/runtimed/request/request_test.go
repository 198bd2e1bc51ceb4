package request

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// plain is what a run without flags asks for.
func plain() (*v1.PodSandboxConfig, *v1.ContainerConfig) {
	ns := func() *v1.NamespaceOption {
		return &v1.NamespaceOption{Network: v1.NamespaceMode_POD, Pid: v1.NamespaceMode_CONTAINER, Ipc: v1.NamespaceMode_POD}
	}
	labels := map[string]string{"runtimed.cli": "run"}
	pod := &v1.PodSandboxConfig{
		Metadata: &v1.PodSandboxMetadata{Name: "n", Uid: "u", Namespace: "default"}, Hostname: "n", Labels: labels,
		Linux: &v1.LinuxPodSandboxConfig{SecurityContext: &v1.LinuxSandboxSecurityContext{NamespaceOptions: ns(), Seccomp: &v1.SecurityProfile{}}},
	}
	ctr := &v1.ContainerConfig{
		Metadata: &v1.ContainerMetadata{Name: "n"}, Image: &v1.ImageSpec{Image: "busybox", UserSpecifiedImage: "busybox"},
		Labels: labels, LogPath: "container.log",
		Linux: &v1.LinuxContainerConfig{SecurityContext: &v1.LinuxContainerSecurityContext{
			NamespaceOptions: ns(), NoNewPrivs: true, Seccomp: &v1.SecurityProfile{}}},
	}
	return pod, ctr
}

func text(s string) *string { return &s }

// TestBuild: each flag alone changes what it names, and nothing else.
func TestBuild(t *testing.T) {
	for _, c := range []struct {
		name   string
		flags  func(*Options)
		expect func(*v1.PodSandboxConfig, *v1.ContainerConfig)
	}{
		{"nothing", func(*Options) {}, func(*v1.PodSandboxConfig, *v1.ContainerConfig) {}},
		{"a command", func(o *Options) { o.Args = []string{"echo", "-d"} },
			func(_ *v1.PodSandboxConfig, c *v1.ContainerConfig) { c.Args = []string{"echo", "-d"} }},
		{"a hostname from an odd name", func(o *Options) { o.Name = "My_web.1" }, func(p *v1.PodSandboxConfig, c *v1.ContainerConfig) {
			p.Metadata.Name, c.Metadata.Name, p.Hostname = "My_web.1", "My_web.1", "my-web-1"
		}},
		{"entrypoint", func(o *Options) { o.Entrypoint, o.Args = text("sh"), []string{"-c", "x"} },
			func(_ *v1.PodSandboxConfig, c *v1.ContainerConfig) {
				c.Command, c.Args = []string{"sh"}, []string{"-c", "x"}
			}},
		{"no entrypoint", func(o *Options) { o.Entrypoint, o.Args = text(""), []string{"sh", "-c", "x"} },
			func(_ *v1.PodSandboxConfig, c *v1.ContainerConfig) {
				c.Command, c.Args = []string{"sh"}, []string{"-c", "x"}
			}},
		{"workdir", func(o *Options) { o.Workdir = "/srv" }, func(_ *v1.PodSandboxConfig, c *v1.ContainerConfig) { c.WorkingDir = "/srv" }},
		{"host network", func(o *Options) { o.Network = "host" }, func(p *v1.PodSandboxConfig, c *v1.ContainerConfig) {
			p.Hostname = ""
			p.Linux.SecurityContext.NamespaceOptions.Network = v1.NamespaceMode_NODE
			c.Linux.SecurityContext.NamespaceOptions.Network = v1.NamespaceMode_NODE
		}},
		{"ports", func(o *Options) {
			o.Ports = []string{"8080:80", "127.0.0.1:5353:53/udp", "[::1]:443:8443/tcp", "0.0.0.0:1:65535"}
		}, func(p *v1.PodSandboxConfig, _ *v1.ContainerConfig) {
			p.PortMappings = []*v1.PortMapping{
				{HostPort: 8080, ContainerPort: 80},
				{HostIp: "127.0.0.1", HostPort: 5353, ContainerPort: 53, Protocol: v1.Protocol_UDP},
				{HostIp: "::1", HostPort: 443, ContainerPort: 8443},
				{HostIp: "0.0.0.0", HostPort: 1, ContainerPort: 65535},
			}
		}},
		{"volumes", func(o *Options) { o.Volumes = []string{"/a/../b:/c", "./x:/y:ro", "/z:/z:rw"} },
			func(_ *v1.PodSandboxConfig, c *v1.ContainerConfig) {
				c.Mounts = []*v1.Mount{{HostPath: "/b", ContainerPath: "/c"}, {HostPath: "/here/x", ContainerPath: "/y", Readonly: true}, {HostPath: "/z", ContainerPath: "/z"}}
			}},
		{"variables", func(o *Options) { o.Env = []string{"A=1", "B=x=y", "HOME", "UNSET", "A=2", "EMPTY="} },
			func(_ *v1.PodSandboxConfig, c *v1.ContainerConfig) {
				c.Envs = []*v1.KeyValue{{Key: "A", Value: []byte("2")}, {Key: "B", Value: []byte("x=y")}, {Key: "HOME", Value: []byte("/home/me")}, {Key: "EMPTY", Value: []byte{}}}
			}},
		{"limits", func(o *Options) { o.Memory, o.CPUs, o.PidsLimit = "64m", "1.5", 100 }, func(_ *v1.PodSandboxConfig, c *v1.ContainerConfig) {
			c.Linux.Resources = &v1.LinuxContainerResources{MemoryLimitInBytes: 64 << 20, CpuPeriod: 100000, CpuQuota: 150000, Unified: map[string]string{"pids.max": "100"}}
		}},
		{"user by id", func(o *Options) { o.User = "1000:2000" }, func(_ *v1.PodSandboxConfig, c *v1.ContainerConfig) {
			c.Linux.SecurityContext.RunAsUser, c.Linux.SecurityContext.RunAsGroup = &v1.Int64Value{Value: 1000}, &v1.Int64Value{Value: 2000}
		}},
		{"root by id", func(o *Options) { o.User = "0" },
			func(_ *v1.PodSandboxConfig, c *v1.ContainerConfig) {
				c.Linux.SecurityContext.RunAsUser = &v1.Int64Value{}
			}},
		{"user by name", func(o *Options) { o.User = "app" },
			func(_ *v1.PodSandboxConfig, c *v1.ContainerConfig) { c.Linux.SecurityContext.RunAsUsername = "app" }},
		{"read-only", func(o *Options) { o.ReadOnly = true },
			func(_ *v1.PodSandboxConfig, c *v1.ContainerConfig) { c.Linux.SecurityContext.ReadonlyRootfs = true }},
		{"privileged", func(o *Options) { o.Privileged = true }, func(p *v1.PodSandboxConfig, c *v1.ContainerConfig) {
			unconfined := &v1.SecurityProfile{ProfileType: v1.SecurityProfile_Unconfined}
			p.Linux.SecurityContext.Privileged, p.Linux.SecurityContext.Seccomp = true, unconfined
			s := c.Linux.SecurityContext
			s.Privileged, s.NoNewPrivs, s.Seccomp = true, false, unconfined
		}},
	} {
		o := options()
		c.flags(&o)
		wantPod, wantCtr := plain()
		c.expect(wantPod, wantCtr)
		pod, ctr, err := Build(o)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if d := cmp.Diff(wantPod, pod, protocmp.Transform()); d != "" {
			t.Errorf("%s: pod (-want +got):\n%s", c.name, d)
		}
		if d := cmp.Diff(wantCtr, ctr, protocmp.Transform()); d != "" {
			t.Errorf("%s: container (-want +got):\n%s", c.name, d)
		}
	}
}

func options() Options {
	return Options{
		Name: "n", UID: "u", Image: "busybox", Getwd: func() (string, error) { return "/here", nil },
		LookupEnv: func(k string) (string, bool) { return "/home/me", k == "HOME" },
	}
}

// TestRefusals name the flag and what is possible.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		flag  string
		flags func(*Options)
	}{
		{"--name", func(o *Options) { o.Name = "" }},
		{"--name", func(o *Options) { o.Name = "-x" }},
		{"--name", func(o *Options) { o.Name = "a/b" }},
		{"--name", func(o *Options) { o.Name = "a\nb" }},
		{"--name", func(o *Options) { o.Name = strings.Repeat("a", 64) }},
		{"--name", func(o *Options) { o.Name = "ü" }},
		{"--network", func(o *Options) { o.Network = "none" }},
		{"--entrypoint", func(o *Options) { o.Entrypoint = text("") }},
		{"-p", func(o *Options) { o.Ports = []string{"80"} }},
		{"-p", func(o *Options) { o.Ports = []string{""} }},
		{"-p", func(o *Options) { o.Ports = []string{":80"} }},
		{"-p", func(o *Options) { o.Ports = []string{"80:"} }},
		{"-p", func(o *Options) { o.Ports = []string{"0:80"} }},
		{"-p", func(o *Options) { o.Ports = []string{"80:65536"} }},
		{"-p", func(o *Options) { o.Ports = []string{"80:80/sctp"} }},
		{"-p", func(o *Options) { o.Ports = []string{"80:80/"} }},
		{"-p", func(o *Options) { o.Ports = []string{"::1:80:80"} }},
		{"-p", func(o *Options) { o.Ports = []string{"[fe80::1%eth0]:80:80"} }},
		{"-p", func(o *Options) { o.Ports = []string{"example.org:80:80"} }},
		{"-p", func(o *Options) { o.Ports = []string{"-1:80"} }},
		{"-p", func(o *Options) { o.Network, o.Ports = "host", []string{"80:80"} }},
		{"-v", func(o *Options) { o.Volumes = []string{"/a"} }},
		{"-v", func(o *Options) { o.Volumes = []string{"data:/a"} }},
		{"-v", func(o *Options) { o.Volumes = []string{":/a"} }},
		{"-v", func(o *Options) { o.Volumes = []string{"/a:b"} }},
		{"-v", func(o *Options) { o.Volumes = []string{"/a:/b:rx"} }},
		{"-v", func(o *Options) { o.Volumes = []string{"/a:/b:ro:z"} }},
		{"-e", func(o *Options) { o.Env = []string{"=x"} }},
		{"-e", func(o *Options) { o.Env = []string{""} }},
		{"-e", func(o *Options) { o.Env = []string{"A=\x00"} }},
		{"--memory", func(o *Options) { o.Memory = "much" }},
		{"--memory", func(o *Options) { o.Memory = "0" }},
		{"--memory", func(o *Options) { o.Memory = "-1m" }},
		{"--cpus", func(o *Options) { o.CPUs = "0" }},
		{"--cpus", func(o *Options) { o.CPUs = "NaN" }},
		{"--cpus", func(o *Options) { o.CPUs = "inf" }},
		{"--cpus", func(o *Options) { o.CPUs = "two" }},
		{"--pids-limit", func(o *Options) { o.PidsLimit = -1 }},
		{"--user", func(o *Options) { o.User = ":1" }},
		{"--user", func(o *Options) { o.User = "1:" }},
		{"--user", func(o *Options) { o.User = "app:staff" }},
		{"--user", func(o *Options) { o.User = "4294967296" }},
		{"--user", func(o *Options) { o.User = "1:-1" }},
	} {
		o := options()
		c.flags(&o)
		_, _, err := Build(o)
		if err == nil || !strings.HasPrefix(err.Error(), c.flag) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s of %+v: %v", c.flag, o, err)
		}
	}
	o := options()
	o.Volumes, o.Getwd = []string{"./x:/y"}, func() (string, error) { return "", errors.New("gone") }
	if _, _, err := Build(o); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("without a working directory: %v", err)
	}
}

func FuzzFlags(f *testing.F) {
	f.Add("127.0.0.1:80:80/udp", "/a:/b:ro", "A=b", "1000:1000", "64m", "1.5", "name")
	f.Add("[::1]:1:1", "./a:/b", "A", "app", "1", "0.01", "a.b")
	f.Fuzz(func(t *testing.T, port, volume, env, user, memory, cpus, name string) {
		o := options()
		o.Ports, o.Volumes, o.Env, o.User, o.Memory, o.CPUs, o.Name = []string{port}, []string{volume}, []string{env}, user, memory, cpus, name
		pod, ctr, err := Build(o)
		if err != nil {
			return
		}
		p, m := pod.PortMappings[0], ctr.Mounts[0]
		if p.HostPort < 1 || p.HostPort > 65535 || p.ContainerPort < 1 || p.ContainerPort > 65535 {
			t.Errorf("port %v from %q", p, port)
		}
		if m.HostPath[0] != '/' || m.ContainerPath[0] != '/' || m.Readonly && !strings.HasSuffix(volume, ":ro") {
			t.Errorf("mount %v from %q", m, volume)
		}
		if r := ctr.Linux.Resources; r.GetMemoryLimitInBytes() < 0 || memory != "" && r.GetMemoryLimitInBytes() == 0 || cpus != "" && r.GetCpuQuota() < 1000 {
			t.Errorf("resources %v from %q and %q", r, memory, cpus)
		}
		if s := ctr.Linux.SecurityContext; s.RunAsUser != nil && (s.RunAsUsername != "" || s.RunAsUser.Value < 0) {
			t.Errorf("user %v from %q", s, user)
		}
	})
}
