package bundle

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

const cid, sid = "0123456789abcdef0123456789abcdef", "5a5a"

// write makes a bundle that Read accepts, changed by edit.
func write(t *testing.T, edit func(l *spec.Launch, c *specs.Spec)) string {
	t.Helper()
	layout := spec.Layout{Root: t.TempDir(), Run: "/run/x", Netns: "/run/netns"}
	l := spec.Launch{
		Version: spec.RecordVersion, SandboxID: sid, ContainerID: cid, Layout: layout, Layers: []string{"sha256:a"},
		UserNamespace: layout.Pin(sid, "user"), CgroupPath: "/a/b", ShimCgroup: "/a/shims",
	}
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1 << 30, Size: 65536}}
	c := specs.Spec{
		Root: &specs.Root{Path: layout.Rootfs(cid)}, Process: &specs.Process{Args: []string{"/bin/true"}},
		Linux: &specs.Linux{
			CgroupsPath: "/a/b", UIDMappings: ids, GIDMappings: ids,
			Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.UserNamespace}},
		},
	}
	dir := layout.Container(sid, cid)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		edit(&l, &c)
	}
	for name, v := range map[string]any{spec.LaunchFile: l, spec.ConfigFile: c} {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestRead(t *testing.T) {
	dir := write(t, nil)
	b, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if b.Launch.ContainerID != cid || b.Config.Process.Args[0] != "/bin/true" || b.StateDir() != dir+"/state" {
		t.Errorf("got %+v", b)
	}
}

func TestReadHostIDs(t *testing.T) {
	if _, err := Read(write(t, func(l *spec.Launch, c *specs.Spec) {
		l.UserNamespace = ""
		c.Linux.Namespaces, c.Linux.UIDMappings, c.Linux.GIDMappings = c.Linux.Namespaces[:1], nil, nil
	})); err != nil {
		t.Fatal(err)
	}
}

func TestReadRefused(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(l *spec.Launch, c *specs.Spec)
		want string
	}{
		"version":       {func(l *spec.Launch, c *specs.Spec) { l.Version = 2 }, "version 2"},
		"id":            {func(l *spec.Launch, c *specs.Spec) { l.ContainerID = "x" }, `"x"`},
		"other record":  {func(l *spec.Launch, c *specs.Spec) { l.SandboxID = "b" }, "not of"},
		"group":         {func(l *spec.Launch, c *specs.Spec) { l.CgroupPath = "a/b" }, "absolute"},
		"no root":       {func(l *spec.Launch, c *specs.Spec) { c.Root = nil }, "lacks"},
		"no process":    {func(l *spec.Launch, c *specs.Spec) { c.Process = nil }, "lacks"},
		"no linux":      {func(l *spec.Launch, c *specs.Spec) { c.Linux = nil }, "lacks"},
		"root":          {func(l *spec.Launch, c *specs.Spec) { c.Root.Path = "/" }, "root"},
		"groups differ": {func(l *spec.Launch, c *specs.Spec) { c.Linux.CgroupsPath = "/x" }, "cgroup"},
		"terminal":      {func(l *spec.Launch, c *specs.Spec) { l.TTY = true }, "terminal"},
		"hooks":         {func(l *spec.Launch, c *specs.Spec) { c.Hooks = &specs.Hooks{} }, "hooks"},
		"no hooks":      {func(l *spec.Launch, c *specs.Spec) { l.Hooks = true }, "hooks"},
		"late hooks": {func(l *spec.Launch, c *specs.Spec) {
			l.Hooks, c.Hooks = true, &specs.Hooks{Poststop: []specs.Hook{{Path: "/x"}}}
		}, "behind the start"},
		"no command":    {func(l *spec.Launch, c *specs.Spec) { c.Process.Args = nil }, "command"},
		"empty command": {func(l *spec.Launch, c *specs.Spec) { c.Process.Args = []string{""} }, "command"},
		"user path":     {func(l *spec.Launch, c *specs.Spec) { c.Linux.Namespaces[1].Path = "/x" }, "by path"},
		"no user path":  {func(l *spec.Launch, c *specs.Spec) { l.UserNamespace = "" }, "user namespace"},
		"no maps":       {func(l *spec.Launch, c *specs.Spec) { c.Linux.UIDMappings = nil }, "user namespace"},
		"no user":       {func(l *spec.Launch, c *specs.Spec) { c.Linux.Namespaces = nil }, "user namespace"},
	} {
		_, err := Read(write(t, c.edit))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestReadRefusesTornFiles(t *testing.T) {
	for _, name := range []string{spec.LaunchFile, spec.ConfigFile} {
		for what, content := range map[string]string{"empty": "", "torn": `{"a":`, "null": "null", "array": "[]"} {
			dir := write(t, nil)
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Read(dir); err == nil {
				t.Errorf("%s %s: accepted", what, name)
			}
		}
		dir := write(t, nil)
		if err := os.Truncate(filepath.Join(dir, name), maxFile+1); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(dir); err == nil || !strings.Contains(err.Error(), "longer") {
			t.Errorf("huge %s: got %v", name, err)
		}
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(dir); err == nil {
			t.Errorf("missing %s: accepted", name)
		}
	}
	for _, dir := range []string{"", "x", "/x/../y", "/x/"} {
		if _, err := Read(dir); err == nil {
			t.Errorf("%q: accepted", dir)
		}
	}
}

func TestProcess(t *testing.T) {
	p, err := Process(&specs.Process{
		Args: []string{"a"}, Env: []string{"K=V"}, Cwd: "/w", Terminal: true, NoNewPrivileges: true, ApparmorProfile: "p",
		User:         specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{1001, 4294967294}},
		ConsoleSize:  &specs.Box{Width: 80, Height: 24},
		Capabilities: &specs.LinuxCapabilities{Bounding: []string{"CAP_KILL"}},
		Rlimits:      []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 1, Hard: 2}},
	})
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case p.UID != 1000, p.GID != 1001, !reflect.DeepEqual(p.AdditionalGroups, []int{1001, 4294967294}):
		t.Errorf("user: %+v", p)
	case p.NoNewPrivileges == nil || !*p.NoNewPrivileges, p.AppArmorProfile != "p", p.Capabilities.Bounding[0] != "CAP_KILL":
		t.Errorf("confinement: %+v", p)
	case p.ConsoleWidth != 80, p.ConsoleHeight != 24, p.Cwd != "/w", p.Env[0] != "K=V", p.Args[0] != "a":
		t.Errorf("process: %+v", p)
	case len(p.Rlimits) != 1, p.Rlimits[0].Type != unix.RLIMIT_NOFILE, p.Rlimits[0].Hard != 2:
		t.Errorf("limits: %+v", p.Rlimits)
	}
}

func TestProcessWithoutCapabilitiesHasNone(t *testing.T) {
	p, err := Process(&specs.Process{Args: []string{"a"}})
	if err != nil || p.Capabilities == nil || p.NoNewPrivileges == nil {
		t.Errorf("got %+v, %v", p, err)
	}
}

func TestProcessRefused(t *testing.T) {
	for name, p := range map[string]specs.Process{
		"limit":    {Rlimits: []specs.POSIXRlimit{{Type: "nofile", Soft: 1, Hard: 1}}},
		"soft":     {Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_CORE", Soft: 2, Hard: 1}}},
		"terminal": {Terminal: true, ConsoleSize: &specs.Box{Width: 1 << 16}},
		"affinity": {ExecCPUAffinity: &specs.CPUAffinity{Initial: "x"}},
	} {
		if _, err := Process(&p); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"Version":1}`), []byte(`{"root":{"path":"/"}}`))
	f.Add([]byte(`null`), []byte(`null`))
	f.Fuzz(func(t *testing.T, launch, config []byte) {
		dir := write(t, nil)
		if err := os.WriteFile(filepath.Join(dir, spec.LaunchFile), launch, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, spec.ConfigFile), config, 0o600); err != nil {
			t.Fatal(err)
		}
		if b, err := Read(dir); err == nil {
			Process(b.Config.Process)
		}
	})
}
