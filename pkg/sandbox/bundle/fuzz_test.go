package bundle

import (
	"encoding/json"
	"path"
	"slices"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// FuzzBuild: whatever a request and an image say, a configuration that comes out holds what makes it a sandbox.
func FuzzBuild(f *testing.F) {
	f.Add([]byte(`{"Mounts":[{"ContainerPath":"/proc","HostPath":"/"}],"Env":[{"Key":"A","Value":"b"}]}`), []byte(`{"Volumes":["/../dev"],"User":"0","WorkingDir":"/proc/self/fd/7"}`), false)
	f.Add([]byte(`{"Command":["x"],"Mounts":[{"ContainerPath":"d","HostPath":"/var/lib/runtimed/x"},{"ContainerPath":"/etc/hosts","HostPath":"/h","Readonly":true}]}`), []byte(`{"Env":["HOME=/x\nroot::0:0::/:"]}`), true)
	f.Add([]byte(`{"Resources":{"Unified":{"pids.max":"max"},"MemoryLimit":-1}}`), []byte(`null`), false)
	f.Fuzz(func(t *testing.T, request, image []byte, v2 bool) {
		in := input(func(in *Input) { in.CgroupV2 = v2 })
		var r spec.ContainerRequest
		var i spec.ImageConfig
		if json.Unmarshal(request, &r) != nil || json.Unmarshal(image, &i) != nil {
			return
		}
		in.Container.Request, in.Container.Image.Config = r, i
		config, launch, err := Build(in)
		if err == nil {
			checkInvariants(t, in, config, launch)
		}
	})
}

func checkInvariants(t *testing.T, in Input, c *specs.Spec, l spec.Launch) {
	t.Helper()
	own := map[string]bool{}
	for _, m := range c.Mounts {
		if !path.IsAbs(m.Destination) || path.Clean(m.Destination) != m.Destination || own[m.Destination] {
			t.Errorf("mount at %q", m.Destination)
		}
		own[m.Destination] = true
		bind := m.Type == "bind"
		if bind && (m.Destination == "/" || m.Destination == "/proc" || m.Destination == "/sys" || m.Destination == "/dev") {
			t.Errorf("%q is mounted over %q", m.Source, m.Destination)
		}
		asked := slices.ContainsFunc(in.Container.Request.Mounts, func(r spec.Mount) bool { return path.Clean(r.HostPath) == m.Source })
		if bind && asked && (below(m.Source, in.Layout.Root) || below(m.Source, in.Layout.Run)) {
			t.Errorf("the runtime's own %q is mounted", m.Source)
		}
	}
	for _, p := range []string{"/proc", "/sys", "/dev", "/dev/pts", "/etc/hosts", "/etc/resolv.conf", "/etc/hostname"} {
		if !own[p] {
			t.Errorf("nothing is mounted at %s", p)
		}
	}
	p := c.Process
	switch {
	case c.Linux.Seccomp == nil, len(p.Capabilities.Inheritable) > 0, c.Hooks != nil, c.Annotations != nil, c.Linux.Sysctl != nil:
		t.Errorf("not a sandbox: %+v", p)
	case len(p.Args) == 0 || p.Args[0] == "", !path.IsAbs(p.Cwd) || below(p.Cwd, "/proc"):
		t.Errorf("args %q in %q", p.Args, p.Cwd)
	case c.Linux.Resources.Devices[0].Allow, len(c.Linux.MaskedPaths) == 0, len(c.Linux.ReadonlyPaths) == 0:
		t.Errorf("devices %+v, masked %v", c.Linux.Resources.Devices, c.Linux.MaskedPaths)
	case l.UserNamespace == "" || len(c.Linux.UIDMappings) == 0:
		t.Error("no user namespace")
	case c.Root.Path != in.Layout.Rootfs(cid) || l.CgroupPath != c.Linux.CgroupsPath || l.TTY != p.Terminal:
		t.Errorf("%+v and %+v disagree", c, l)
	}
	for _, v := range l.Volumes {
		if !path.IsAbs(v) || path.Clean(v) != v || v == "/" || below(v, "/proc") || below(v, "/sys") || below(v, "/dev") {
			t.Errorf("volume %q", v)
		}
	}
}
