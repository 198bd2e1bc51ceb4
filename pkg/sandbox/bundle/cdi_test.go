package bundle

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/security/cdi"
)

// withCDI is a container with the node's ids that got edits.
func withCDI(e cdi.Edits) func(*Input) {
	return func(in *Input) {
		hostIDs(in)
		in.CDI = e
	}
}

func TestCDI(t *testing.T) {
	timeout := 30
	dev := specs.LinuxDevice{Path: "/dev/gpu", Type: "c", Major: 1, Minor: 3}
	edits := cdi.Edits{
		Env:     []string{"A=device", "NEW=1"},
		Mounts:  []specs.Mount{{Source: "/lib/gpu.so", Destination: "/usr/lib/gpu.so", Options: []string{"ro", "nosuid"}}, {Type: "tmpfs", Destination: "/dev/shm", Options: []string{"rw"}}},
		Devices: []specs.LinuxDevice{dev}, Rules: []specs.LinuxDeviceCgroup{{Allow: true, Type: "c", Access: "rw"}},
		Groups: []uint32{44}, Hooks: &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/true", Timeout: &timeout}}},
	}
	in := input(withCDI(edits), func(in *Input) {
		in.Devices = []specs.LinuxDevice{{Path: "/dev/gpu", Major: 9}, {Path: "/dev/fuse", Major: 10}}
		in.Sources = map[string]string{"/lib/gpu.so": "/usr/lib/real.so"}
	})
	c, l, err := Build(in)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(c.Process.Env, "A=device") || !slices.Contains(c.Process.Env, "NEW=1") || !slices.Contains(c.Process.User.AdditionalGids, 44) {
		t.Errorf("process %+v", c.Process)
	}
	if m := find(c.Mounts, "/usr/lib/gpu.so"); m == nil || m.Source != "/usr/lib/real.so" || strings.Join(m.Options, ",") != "rbind,ro,nosuid" || m.Type != "bind" {
		t.Errorf("mount %+v", m)
	}
	if m := find(c.Mounts, "/dev/shm"); m == nil || m.Type != "tmpfs" {
		t.Errorf("a standard mount is replaced: %+v", m)
	}
	if len(c.Linux.Devices) != 2 || c.Linux.Devices[0].Path != "/dev/fuse" || c.Linux.Devices[1].Major != 1 {
		t.Errorf("devices %+v", c.Linux.Devices)
	}
	if rules := c.Linux.Resources.Devices; len(rules) != 2 || rules[0].Allow || !rules[1].Allow {
		t.Errorf("rules %+v", rules)
	}
	if c.Hooks == nil || !l.Hooks {
		t.Error("no hooks")
	}
	if c, l, err := Build(input()); err != nil || c.Hooks != nil || l.Hooks {
		t.Errorf("hooks that nobody asked for: %v", err)
	}
}

// A CDI file is root's word, and still nothing in it takes the container's own /proc from under its masks, shows the
// runtime's directories, or lets a mount reach the node.
func TestCDIRefused(t *testing.T) {
	mount := func(m specs.Mount) cdi.Edits { return cdi.Edits{Mounts: []specs.Mount{m}} }
	device := func(paths ...string) (e cdi.Edits) {
		for _, p := range paths {
			e.Devices = append(e.Devices, specs.LinuxDevice{Path: p, Type: "c"})
		}
		return e
	}
	for name, e := range map[string]cdi.Edits{
		"over /proc":           mount(specs.Mount{Source: "/h", Destination: "/proc/sys"}),
		"over the root":        mount(specs.Mount{Source: "/h", Destination: "/"}),
		"over /dev":            mount(specs.Mount{Source: "/h", Destination: "/dev"}),
		"relative source":      mount(specs.Mount{Source: "h", Destination: "/d"}),
		"the runtime's own":    mount(specs.Mount{Source: "/run/runtimed/x", Destination: "/d"}),
		"shared":               mount(specs.Mount{Source: "/h", Destination: "/d", Options: []string{"rbind", "rshared"}}),
		"unknown option":       mount(specs.Mount{Source: "/h", Destination: "/d", Options: []string{"lowerdir=/"}}),
		"unknown type":         mount(specs.Mount{Source: "/h", Destination: "/d", Type: "overlay"}),
		"twice":                mount(specs.Mount{Source: "/h", Destination: "/asked"}),
		"device at the root":   device("/gpu"),
		"device in /proc":      device("/proc/gpu"),
		"device in /sys":       device("/sys/x/gpu"),
		"relative device":      device("dev/gpu"),
		"device out of /dev":   device("/dev/../etc/gpu"),
		"two devices":          device("/dev/gpu", "/dev/gpu"),
		"variable without '='": {Env: []string{"=x"}},
		"variable with NUL":    {Env: []string{"A=\x00"}},
	} {
		if _, _, err := Build(input(withCDI(e), mountOf(spec.Mount{ContainerPath: "/asked", HostPath: "/h"}))); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A container with ids of its own makes no devices: the node's are shown, each from where it is and nowhere else.
func TestDevicesInAUserNamespace(t *testing.T) {
	in := input(func(in *Input) {
		in.Devices = []specs.LinuxDevice{{Path: "/dev/fuse", Type: "c"}, {Path: "/opt/gpu", Type: "c"}, {Path: "/dev/null", Type: "c"}}
		in.DeviceSources = map[string]string{"/dev/fuse": "/dev/fuse", "/opt/gpu": "/dev/gpu7", "/dev/null": "/dev/null"}
		in.DeviceRules = []specs.LinuxDeviceCgroup{{Allow: true, Type: "c", Access: "rw"}}
		in.CDI = cdi.Edits{Devices: []specs.LinuxDevice{{Path: "/dev/card", Type: "c"}}, Sources: map[string]string{"/dev/card": "/dev/dri/card0"}}
	})
	c, _, err := Build(in)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Linux.Devices) != 0 || len(c.Linux.Resources.Devices) != 2 {
		t.Errorf("devices %+v, rules %+v", c.Linux.Devices, c.Linux.Resources.Devices)
	}
	for dst, src := range map[string]string{"/dev/fuse": "/dev/fuse", "/opt/gpu": "/dev/gpu7", "/dev/card": "/dev/dri/card0"} {
		if m := find(c.Mounts, dst); m == nil || m.Source != src || strings.Join(m.Options, ",") != "bind,rprivate,nosuid,noexec,rw" || m.UIDMappings != nil {
			t.Errorf("%s: %+v", dst, m)
		}
	}
	if find(c.Mounts, "/dev/null") != nil {
		t.Error("a standard device is mounted over itself")
	}
	for name, edit := range map[string]func(*Input){
		"another one at a standard place": func(in *Input) { in.DeviceSources["/dev/null"] = "/dev/zero" },
		"a mount and a device":            mountOf(spec.Mount{ContainerPath: "/dev/fuse", HostPath: "/h"}),
		"the runtime's own":               func(in *Input) { in.DeviceSources["/dev/fuse"] = "/run/runtimed/x" },
	} {
		bad := in
		bad.DeviceSources = maps.Clone(in.DeviceSources)
		bad.Container.Request.Mounts = nil
		edit(&bad)
		if _, _, err := Build(bad); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
	in.DeviceSources = nil
	if _, _, err := Build(in); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("from nowhere: %v", err)
	}
}
