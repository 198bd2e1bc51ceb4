package bundle

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func TestArgs(t *testing.T) {
	entry, cmd := []string{"e1", "e2"}, []string{"c1"}
	for _, c := range []struct {
		name          string
		command, args []string
		entry, cmd    []string
		want          string
	}{
		{"image alone", nil, nil, entry, cmd, "e1 e2 c1"},
		{"entrypoint alone", nil, nil, entry, nil, "e1 e2"},
		{"cmd alone", nil, nil, nil, cmd, "c1"},
		{"args replace cmd", nil, []string{"a"}, entry, cmd, "e1 e2 a"},
		{"args without entrypoint", nil, []string{"a"}, nil, cmd, "a"},
		{"command replaces entrypoint and drops cmd", []string{"x"}, nil, entry, cmd, "x"},
		{"both", []string{"x"}, []string{"a"}, entry, cmd, "x a"},
		{"an empty list is none", []string{}, []string{}, entry, cmd, "e1 e2 c1"},
		{"nothing", nil, nil, nil, nil, ""},
		{"empty program", []string{""}, []string{"a"}, nil, nil, ""},
		{"empty program of the image", nil, nil, []string{""}, cmd, ""},
		{"NUL in the image", nil, nil, []string{"/bin/sh\x00"}, nil, ""},
		{"NUL in an argument", []string{"x"}, []string{"a\x00b"}, nil, nil, ""},
	} {
		got, err := Args(spec.ContainerRequest{Command: c.command, Args: c.args}, spec.ImageConfig{Entrypoint: c.entry, Cmd: c.cmd})
		if strings.Join(got, " ") != c.want || (c.want == "") != errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
	}
}

func TestEnv(t *testing.T) {
	for _, c := range []struct {
		name  string
		edit  func(*Input)
		want  string // all, separated by "|"
		wrong bool
	}{
		{"image over default", nil, "PATH=/bin|HOSTNAME=web-1|A=image|HOME=/root", false},
		{"default path", func(in *Input) { in.Container.Image.Config.Env = nil }, defaultPath + "|HOSTNAME=web-1|HOME=/root", false},
		{"request over image", func(in *Input) {
			in.Container.Request.Env = []spec.KeyValue{{Key: "A", Value: "req"}, {Key: "B", Value: "="}}
		},
			"PATH=/bin|HOSTNAME=web-1|A=req|B==|HOME=/root", false},
		{"request's last word", func(in *Input) {
			in.Container.Request.Env = []spec.KeyValue{{Key: "A", Value: "1"}, {Key: "A", Value: "2"}}
		},
			"PATH=/bin|HOSTNAME=web-1|A=2|HOME=/root", false},
		{"own HOSTNAME", func(in *Input) { in.Container.Image.Config.Env = []string{"HOSTNAME=x"} }, defaultPath + "|HOSTNAME=x|HOME=/root", false},
		{"hostname from the id", func(in *Input) { in.Sandbox.Request.Hostname = "" }, "PATH=/bin|HOSTNAME=555555555555|A=image|HOME=/root", false},
		{"the node's hostname", func(in *Input) { hostPod(in); in.NodeHostname = "n" }, "PATH=/bin|HOSTNAME=n|A=image|HOME=/root", false},
		{"no hostname known", hostPod, "PATH=/bin|A=image|HOME=/root", false},
		{"terminal", func(in *Input) { in.Container.Request.TTY = true }, "PATH=/bin|HOSTNAME=web-1|TERM=xterm|A=image|HOME=/root", false},
		{"own TERM", func(in *Input) {
			in.Container.Request.TTY = true
			in.Container.Image.Config.Env = []string{"TERM=vt100"}
		},
			defaultPath + "|HOSTNAME=web-1|TERM=vt100|HOME=/root", false},
		{"own HOME", func(in *Input) { in.Container.Image.Config.Env = []string{"HOME=/h"} }, defaultPath + "|HOSTNAME=web-1|HOME=/h", false},
		{"empty HOME", func(in *Input) { in.Container.Request.Env = []spec.KeyValue{{Key: "HOME"}} }, "PATH=/bin|HOSTNAME=web-1|A=image|HOME=/root", false},
		{"no home known", func(in *Input) { in.Container.Profile.User.Home = "" }, "PATH=/bin|HOSTNAME=web-1|A=image|HOME=/", false},
		{"image says nothing", func(in *Input) { in.Container.Image.Config.Env = []string{"X", "=y", ""} }, defaultPath + "|HOSTNAME=web-1|HOME=/root", false},
		{"newline is data", func(in *Input) { in.Container.Image.Config.Env = []string{"HOME=/x\nroot2::0:0::/:/bin/sh"} },
			defaultPath + "|HOSTNAME=web-1|HOME=/x\nroot2::0:0::/:/bin/sh", false},
		{"NUL in the image", func(in *Input) { in.Container.Image.Config.Env = []string{"A=b\x00c"} }, "", true},
		{"NUL in the request", func(in *Input) { in.Container.Request.Env = []spec.KeyValue{{Key: "A", Value: "\x00"}} }, "", true},
		{"no name", func(in *Input) { in.Container.Request.Env = []spec.KeyValue{{Value: "x"}} }, "", true},
		{"= in a name", func(in *Input) { in.Container.Request.Env = []spec.KeyValue{{Key: "A=B", Value: "x"}} }, "", true},
	} {
		in := input()
		if c.edit != nil {
			c.edit(&in)
		}
		got, err := in.env()
		if (err != nil) != c.wrong || strings.Join(got, "|") != c.want {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
	}
}

func TestCwd(t *testing.T) {
	for _, c := range []struct{ request, image, want string }{
		{"", "", "/"}, {"", "/app", "/app"}, {"/req", "/app", "/req"}, {"", "app", "/app"}, {"", "/../../x", "/x"},
		{"", "/a/./b/", "/a/b"}, {"", "/processes", "/processes"}, {"../..", "", "/"},
		{"", "/proc/self/fd/8", ""}, {"/proc/self/fd/8", "", ""}, {"", "/x/../proc/self/cwd", ""}, {"", "/proc", ""},
		{"", "//proc/1/root", ""}, {"", "/a\x00b", ""}, {"", "/" + strings.Repeat("a/", 3000), ""},
	} {
		in := input()
		in.Container.Request.WorkingDir, in.Container.Image.Config.WorkingDir = c.request, c.image
		got, err := in.cwd()
		if got != c.want || (c.want == "") != errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%.40q %.40q: %q, %v", c.request, c.image, got, err)
		}
	}
}

func TestNamespaces(t *testing.T) {
	modes := func(pod, container spec.NamespaceMode) func(*Input) {
		return func(in *Input) {
			in.Sandbox.Request.Security.Namespaces.PID = pod
			in.Container.Request.Security.Namespaces.PID = container
			in.PodInit = &spec.Process{PID: 77}
		}
	}
	const base = "mount user network=/run/netns/S uts=/run/runtimed/ns/S/uts ipc=/run/runtimed/ns/S/ipc"
	const hostBase = "mount network=/run/netns/S uts=/run/runtimed/ns/S/uts ipc=/run/runtimed/ns/S/ipc"
	for _, c := range []struct {
		name string
		edit func(*Input)
		want string
		kind error
	}{
		{"own PID", modes(spec.NamespaceContainer, spec.NamespaceContainer), base + " pid", nil},
		{"unset in a pod that shares none", modes(spec.NamespaceContainer, ""), base + " pid", nil},
		{"POD in a pod that shares none", modes(spec.NamespaceContainer, spec.NamespacePod), base + " pid", nil},
		{"shared", modes(spec.NamespacePod, spec.NamespacePod), base + " pid=/proc/77/ns/pid", nil},
		{"shared, unset", modes(spec.NamespacePod, ""), base + " pid=/proc/77/ns/pid", nil},
		{"own in a pod that shares", modes(spec.NamespacePod, spec.NamespaceContainer), base + " pid", nil},
		{"the node's in a pod that shares", modes(spec.NamespacePod, spec.NamespaceNode), base, nil},
		{"the pod's is the node's", modes(spec.NamespaceNode, spec.NamespacePod), base, nil},
		{"own in a pod of the node's", modes(spec.NamespaceNode, spec.NamespaceContainer), base + " pid", nil},
		{"target", func(in *Input) {
			modes(spec.NamespacePod, spec.NamespaceTarget)(in)
			in.PIDTarget = &spec.Process{PID: 88}
		}, base + " pid=/proc/88/ns/pid", nil},
		{"target that is gone", modes(spec.NamespacePod, spec.NamespaceTarget), "", errdefs.ErrFailedPrecondition},
		{"target that is the node's init", func(in *Input) {
			modes(spec.NamespacePod, spec.NamespaceTarget)(in)
			in.PIDTarget = &spec.Process{PID: 1}
		}, "", errdefs.ErrFailedPrecondition},
		{"nonsense", modes("x", ""), "", errdefs.ErrInvalidArgument},
		{"shared without an init", func(in *Input) { modes(spec.NamespacePod, "")(in); in.PodInit = nil }, "", errdefs.ErrFailedPrecondition},
		{"shared with the node's init", func(in *Input) { modes(spec.NamespacePod, "")(in); in.PodInit.PID = 1 }, "", errdefs.ErrFailedPrecondition},
		{"node's ids", hostIDs, hostBase + " pid", nil},
		{"no user namespace", func(in *Input) { in.Sandbox.Profile.UserNamespace = false }, hostBase + " pid", nil},
		{"node's network", func(in *Input) { in.Sandbox.Request.Security.Namespaces.Network = spec.NamespaceNode }, "mount user ipc=/run/runtimed/ns/S/ipc pid", nil},
		{"node's IPC", func(in *Input) { in.Sandbox.Request.Security.Namespaces.IPC = spec.NamespaceNode }, "mount user network=/run/netns/S uts=/run/runtimed/ns/S/uts pid", nil},
		{"all the node's", hostPod, "mount", nil},
		{"v2", func(in *Input) { in.CgroupV2 = true }, base + " cgroup pid", nil},
		{"v2, privileged", func(in *Input) { in.CgroupV2 = true; privileged(in) }, hostBase + " pid", nil},
	} {
		config, launch, err := Build(input(c.edit))
		if c.kind != nil || err != nil {
			if !errors.Is(err, c.kind) {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		var got []string
		for _, n := range config.Linux.Namespaces {
			s := string(n.Type)
			if n.Path != "" {
				s += "=" + strings.ReplaceAll(n.Path, sid, "S")
			}
			got = append(got, s)
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: %s", c.name, s)
		}
		user := strings.Contains(c.want, "user")
		if user != (launch.UserNamespace == "/run/runtimed/ns/"+sid+"/user") || user != (config.Linux.UIDMappings != nil) || user != (config.Linux.GIDMappings != nil) {
			t.Errorf("%s: user namespace %q with maps %v", c.name, launch.UserNamespace, config.Linux.UIDMappings)
		}
	}
}

func TestRefusesRecordsThatConfineLess(t *testing.T) {
	for name, edit := range map[string]func(*Input){
		"no filter":                    func(in *Input) { in.Seccomp = nil },
		"a filter that was not wanted": func(in *Input) { in.Container.Profile.Seccomp.Type = spec.ProfileUnconfined },
		"no profile named":             func(in *Input) { in.Container.Profile.Seccomp = spec.SecurityProfile{}; in.Seccomp = nil },
		"no uid map":                   func(in *Input) { in.Sandbox.Profile.UIDs = nil },
		"no gid map":                   func(in *Input) { in.Sandbox.Profile.GIDs = nil },
		"no layers":                    func(in *Input) { in.Container.Image.Layers = nil },
		"no id":                        func(in *Input) { in.Container.ID = "" },
	} {
		if _, _, err := Build(input(edit)); !errors.Is(err, errdefs.ErrFailedPrecondition) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMemory(t *testing.T) {
	for _, c := range []struct {
		limit, swap int64
		noSwap      bool
		want        string
	}{
		{0, 0, false, "none"}, {100, 0, false, "100 100"}, {100, 100, false, "100 100"}, {100, 300, false, "100 300"},
		{100, -1, false, "100 -1"}, {0, 300, false, "- 300"}, {-1, 0, false, "-1 -"}, {-1, -1, false, "-1 -1"},
		{100, 0, true, "100 -"}, {100, 300, true, "100 -"},
	} {
		m := Input{NoSwapLimit: c.noSwap}.memory(&spec.Resources{MemoryLimit: c.limit, MemorySwap: c.swap})
		got := "none"
		if m != nil {
			got = number(m.Limit) + " " + number(m.Swap)
		}
		if got != c.want {
			t.Errorf("limit %d swap %d: %s, want %s", c.limit, c.swap, got, c.want)
		}
	}
}

func TestHugepages(t *testing.T) {
	for _, c := range []struct {
		limit uint64
		none  bool
		want  int // limits; -1 is FailedPrecondition
	}{{0, false, 1}, {1 << 21, false, 1}, {0, true, 0}, {1 << 21, true, -1}} {
		in := input()
		in.NoHugepageLimit = c.none
		in.Container.Request.Resources = &spec.Resources{HugepageLimits: []spec.HugepageLimit{{PageSize: "2MB", Limit: c.limit}}}
		got := -1
		if r, err := in.resources(); err == nil {
			got = len(r.HugepageLimits)
		} else if !errors.Is(err, errdefs.ErrFailedPrecondition) {
			t.Errorf("%+v: %v", c, err)
		}
		if got != c.want {
			t.Errorf("%+v: got %d", c, got)
		}
	}
}

func number(n *int64) string {
	if n == nil {
		return "-"
	}
	return fmt.Sprint(*n)
}

func TestPidsAndUnified(t *testing.T) {
	for _, c := range []struct {
		name    string
		unified map[string]string
		def     int64
		v2      bool
		pids    string
		rest    int
		wrong   bool
	}{
		{"nobody said", nil, 0, false, "-", 0, false},
		{"the node's", nil, 8192, false, "8192", 0, false},
		{"asked", map[string]string{"pids.max": "10"}, 8192, false, "10", 0, false},
		{"max", map[string]string{"pids.max": "max"}, 8192, false, "-1", 0, false},
		{"on v2 too", map[string]string{"pids.max": "10"}, 0, true, "10", 0, false},
		{"with others on v2", map[string]string{"pids.max": "10", "memory.oom.group": "1"}, 0, true, "10", 1, false},
		{"others on v1", map[string]string{"memory.oom.group": "1"}, 0, false, "", 0, true},
		{"zero", map[string]string{"pids.max": "0"}, 0, true, "", 0, true},
		{"negative", map[string]string{"pids.max": "-1"}, 0, true, "", 0, true},
		{"text", map[string]string{"pids.max": "many"}, 0, true, "", 0, true},
		{"empty", map[string]string{"pids.max": ""}, 0, true, "", 0, true},
	} {
		in := input(func(in *Input) {
			in.PidsLimit, in.CgroupV2 = c.def, c.v2
			in.Container.Request.Resources = &spec.Resources{Unified: c.unified}
		})
		r, err := in.resources()
		if (err != nil) != c.wrong {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if err != nil {
			continue
		}
		var limit *int64
		if r.Pids != nil {
			limit = r.Pids.Limit
		}
		if number(limit) != c.pids || len(r.Unified) != c.rest || r.Unified["pids.max"] != "" {
			t.Errorf("%s: pids %s, unified %v", c.name, number(limit), r.Unified)
		}
		if len(c.unified) > 0 && c.unified["pids.max"] == "" && c.name != "empty" && !c.wrong {
			t.Errorf("%s: the request was changed", c.name)
		}
	}
}

func TestDeviceRules(t *testing.T) {
	n := int64(1)
	asked := func(in *Input) {
		in.DeviceRules = []specs.LinuxDeviceCgroup{{Allow: true, Type: "c", Major: &n, Minor: &n, Access: "r"}}
	}
	all := func(r specs.LinuxDeviceCgroup) bool {
		return r.Type == "" && r.Major == nil && r.Minor == nil && r.Access == "rwm"
	}
	config, _, err := Build(input(asked))
	if err != nil {
		t.Fatal(err)
	}
	if r := config.Linux.Resources.Devices; len(r) != 2 || r[0].Allow || !all(r[0]) || !r[1].Allow {
		t.Errorf("%+v", r)
	}
	config, _, err = Build(input(privileged, asked))
	if err != nil {
		t.Fatal(err)
	}
	if r := config.Linux.Resources.Devices; len(r) != 1 || !r[0].Allow || !all(r[0]) {
		t.Errorf("privileged: %+v", r)
	}
}

func TestTerminalGroupOfDevpts(t *testing.T) {
	for _, c := range []struct {
		gids []spec.IDMapping
		want bool
	}{
		{[]spec.IDMapping{{ContainerID: 0, HostID: 9, Size: 6}}, true},
		{[]spec.IDMapping{{ContainerID: 0, HostID: 9, Size: 5}}, false},
		{[]spec.IDMapping{{ContainerID: 0, HostID: 9, Size: 1}, {ContainerID: 5, HostID: 100, Size: 1}}, true},
	} {
		in := input(func(in *Input) { in.Sandbox.Profile.GIDs = c.gids })
		i := slices.IndexFunc(in.standard(), func(m specs.Mount) bool { return m.Destination == "/dev/pts" })
		if got := slices.Contains(in.standard()[i].Options, "gid=5"); got != c.want {
			t.Errorf("%v: %v", c.gids, got)
		}
	}
}
