package security

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// node is one where AppArmor has a profile "loaded", and the daemon holds a little more than the default.
var node = Node{
	HeldCapabilities: []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP",
		"CAP_NET_BIND_SERVICE", "CAP_KILL", "CAP_SYS_ADMIN", "CAP_NET_RAW",
	},
	MountAttr: true,
	AppArmor:  true, AppArmorLoaded: func(name string) bool { return name == "loaded" },
	SeccompRoot: "/var/lib/kubelet/seccomp",
	Rlimits:     []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 1024, Hard: 20000}},
	MaskedPaths: []string{"/sys/devices/system/cpu/cpu0/thermal_throttle"},
}

// container is one that asked for nothing, in a pod that asked for nothing.
func container(edits ...func(*ContainerInput)) ContainerInput {
	ids := mapping(0, 0x40000000, 65536)
	in := ContainerInput{
		Sandbox: spec.Sandbox{ID: "s", Request: pod(), Profile: spec.SandboxProfile{UserNamespace: true, UIDs: ids, GIDs: ids}},
		Passwd:  strings.NewReader(passwdFile), Group: strings.NewReader(groupFile),
	}
	for _, e := range edits {
		e(&in)
	}
	return in
}

func security(edit func(*spec.ContainerSecurity)) func(*ContainerInput) {
	return func(in *ContainerInput) { edit(&in.Request.Security) }
}

func mount(m spec.Mount) func(*ContainerInput) {
	return func(in *ContainerInput) { in.Request.Mounts = append(in.Request.Mounts, m) }
}

func image(user string) func(*ContainerInput) {
	return func(in *ContainerInput) { in.Image.User = user }
}

// nodePod is a pod without a user namespace.
func nodePod(in *ContainerInput) {
	in.Sandbox.Request = pod(userns(spec.NamespaceNode))
	in.Sandbox.Profile = spec.SandboxProfile{}
}

// hostPod shares everything with the node.
func hostPod(in *ContainerInput) {
	nodePod(in)
	in.Sandbox.Request.Security.Namespaces = spec.Namespaces{Network: spec.NamespaceNode, PID: spec.NamespaceNode, IPC: spec.NamespaceNode}
}

// askedPod asked for its user namespace itself.
func askedPod(in *ContainerInput) {
	in.Sandbox.Request.Security.Namespaces.User = spec.UserNamespace{Mode: spec.NamespacePod, UIDs: in.Sandbox.Profile.UIDs, GIDs: in.Sandbox.Profile.GIDs}
}

func nfs(in *ContainerInput) {
	in.NotIDMappable = func(m spec.Mount) error {
		if m.HostPath == "/nfs" {
			return errors.New("nfs cannot be idmapped")
		}
		return nil
	}
}

func TestModes(t *testing.T) {
	ns := func(edit func(*spec.Namespaces)) func(*ContainerInput) {
		return security(func(s *spec.ContainerSecurity) { edit(&s.Namespaces) })
	}
	other := mapping(0, 1000, 65536)
	none := func(*ContainerInput) {}
	for _, c := range []struct {
		name string
		pod  func(*ContainerInput)
		edit func(*ContainerInput)
		kind error
	}{
		{"unset", none, none, nil},
		{"POD", none, ns(func(n *spec.Namespaces) { n.Network, n.IPC, n.PID = "pod", "pod", "pod" }), nil},
		{"POD in a pod of the node's", hostPod, ns(func(n *spec.Namespaces) { n.Network, n.IPC, n.PID = "pod", "pod", "pod" }), nil},
		{"NODE in a pod of the node's", hostPod, ns(func(n *spec.Namespaces) { n.Network, n.IPC, n.PID, n.User.Mode = "node", "node", "node", "node" }), nil},
		{"own PIDs in a pod of the node's", hostPod, ns(func(n *spec.Namespaces) { n.PID = "container" }), nil},
		{"the node's network", none, ns(func(n *spec.Namespaces) { n.Network = "node" }), errdefs.ErrInvalidArgument},
		{"the node's IPC", none, ns(func(n *spec.Namespaces) { n.IPC = "node" }), errdefs.ErrInvalidArgument},
		{"network CONTAINER", none, ns(func(n *spec.Namespaces) { n.Network = "container" }), errdefs.ErrInvalidArgument},
		{"ipc TARGET", none, ns(func(n *spec.Namespaces) { n.IPC = "target" }), errdefs.ErrInvalidArgument},
		{"pid TARGET", none, ns(func(n *spec.Namespaces) { n.PID, n.Target = "target", "x" }), errdefs.ErrFailedPrecondition},
		{"pid TARGET of another pod", none, func(in *ContainerInput) { target(spec.Profile{})(in); in.Target.SandboxID = "other" }, errdefs.ErrInvalidArgument},
		{"pid TARGET", none, target(spec.Profile{}), nil},
		{"pid TARGET in a pod that asked", askedPod, target(spec.Profile{}), nil},
		{"pid of nonsense", none, ns(func(n *spec.Namespaces) { n.PID = "x" }), errdefs.ErrInvalidArgument},
		{"user CONTAINER", none, ns(func(n *spec.Namespaces) { n.User.Mode = "container" }), errdefs.ErrInvalidArgument},
		{"user TARGET", none, ns(func(n *spec.Namespaces) { n.User.Mode = "target" }), errdefs.ErrInvalidArgument},
		{"user POD with the pod's maps", askedPod, func(in *ContainerInput) {
			in.Request.Security.Namespaces.User = in.Sandbox.Request.Security.Namespaces.User
		}, nil},
		{"user POD with other maps", askedPod, ns(func(n *spec.Namespaces) { n.User = spec.UserNamespace{Mode: "pod", UIDs: other, GIDs: other} }), errdefs.ErrInvalidArgument},
		{"user POD with other groups", askedPod, func(in *ContainerInput) {
			in.Request.Security.Namespaces.User = spec.UserNamespace{Mode: "pod", UIDs: in.Sandbox.Profile.UIDs, GIDs: other}
		}, errdefs.ErrInvalidArgument},
		{"user POD in a pod without", nodePod, ns(func(n *spec.Namespaces) { n.User.Mode = "pod" }), errdefs.ErrInvalidArgument},
		{"user NODE with maps", none, ns(func(n *spec.Namespaces) { n.User = spec.UserNamespace{Mode: "node", UIDs: other, GIDs: other} }), errdefs.ErrInvalidArgument},
		{"maps without a mode", none, ns(func(n *spec.Namespaces) { n.User.UIDs = other }), errdefs.ErrInvalidArgument},
		{"user NODE in a pod without", nodePod, ns(func(n *spec.Namespaces) { n.User.Mode = "node" }), nil},
		{"user NODE against a pod that asked", askedPod, ns(func(n *spec.Namespaces) { n.User.Mode = "node" }), errdefs.ErrInvalidArgument},
	} {
		if _, err := ResolveContainer(container(c.pod, c.edit), node); !errors.Is(err, c.kind) || (err == nil) != (c.kind == nil) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestProfiles(t *testing.T) {
	sec := func(typ spec.ProfileType, local string) func(*ContainerInput) {
		return security(func(s *spec.ContainerSecurity) { s.Seccomp = &spec.SecurityProfile{Type: typ, Localhost: local} })
	}
	arm := func(typ spec.ProfileType, local string) func(*ContainerInput) {
		return security(func(s *spec.ContainerSecurity) { s.AppArmor = &spec.SecurityProfile{Type: typ, Localhost: local} })
	}
	sel := security(func(s *spec.ContainerSecurity) { s.SELinux.Type = "container_t" })
	priv := security(func(s *spec.ContainerSecurity) { s.Privileged = true })
	none := func(*ContainerInput) {}
	cri, bare, anywhere, enforcing, guarded, guardedCRI := node, Node{}, node, node, node, node
	guarded.AppArmorDefault, guardedCRI.AppArmorDefault, guardedCRI.Policy = "ours", "ours", PolicyCRI
	cri.Policy, anywhere.SeccompRoot, enforcing.SELinux = PolicyCRI, "/", true
	const local, root = spec.ProfileLocalhost, "/var/lib/kubelet/seccomp"
	for _, c := range []struct {
		name    string
		node    Node
		pod     func(*ContainerInput)
		edit    func(*ContainerInput)
		want    string // seccomp, AppArmor and the fields of the reasons
		errKind error
	}{
		{"nothing", node, none, none, "runtime/default", nil},
		{"nothing, policy cri", cri, none, none, "unconfined", nil},
		{"default, policy cri", cri, none, sec(spec.ProfileRuntimeDefault, ""), "runtime/default", nil},
		{"default", node, none, sec(spec.ProfileRuntimeDefault, ""), "runtime/default", nil},
		{"unconfined", node, none, sec(spec.ProfileUnconfined, ""), "unconfined", nil},
		{"file", node, none, sec(local, root+"/a/b.json"), "localhost " + root + "/a/b.json", nil},
		{"file anywhere", anywhere, none, sec(local, "/tmp/p.json"), "localhost /tmp/p.json", nil},
		{"file anywhere by default", bare, none, sec(local, "/tmp/p.json"), "localhost /tmp/p.json", nil},
		{"privileged", node, nodePod, priv, "unconfined", nil},
		{"privileged, default", node, nodePod, func(in *ContainerInput) { priv(in); sec(spec.ProfileRuntimeDefault, "")(in) }, "unconfined security.seccomp", nil},
		{"privileged, file", node, nodePod, func(in *ContainerInput) { priv(in); sec(local, root+"/x")(in) }, "unconfined security.seccomp", nil},
		{"privileged, unconfined", node, nodePod, func(in *ContainerInput) { priv(in); sec(spec.ProfileUnconfined, "")(in) }, "unconfined", nil},
		{"privileged, no file named", node, nodePod, func(in *ContainerInput) { priv(in); sec(local, "")(in) }, "", errdefs.ErrInvalidArgument},
		{"no file named (CVE-2023-2431)", node, none, sec(local, ""), "", errdefs.ErrInvalidArgument},
		{"relative file", anywhere, none, sec(local, "p.json"), "", errdefs.ErrInvalidArgument},
		{"outside the root", node, none, sec(local, "/etc/passwd"), "", errdefs.ErrInvalidArgument},
		{"beside the root", node, none, sec(local, root+"2/x"), "", errdefs.ErrInvalidArgument},
		{"the root itself", node, none, sec(local, root), "", errdefs.ErrInvalidArgument},
		{"out of the root by ..", node, none, sec(local, root+"/../x"), "", errdefs.ErrInvalidArgument},
		{"NUL", anywhere, none, sec(local, "/tmp/\x00"), "", errdefs.ErrInvalidArgument},
		{"default with a path", node, none, sec(spec.ProfileRuntimeDefault, "/x"), "", errdefs.ErrInvalidArgument},
		{"unconfined with a path", node, none, sec(spec.ProfileUnconfined, "/x"), "", errdefs.ErrInvalidArgument},
		{"no type", node, none, sec("", ""), "", errdefs.ErrInvalidArgument},
		{"unknown type", node, none, sec("x", ""), "", errdefs.ErrInvalidArgument},

		{"AppArmor unconfined", node, none, arm(spec.ProfileUnconfined, ""), "runtime/default", nil},
		{"AppArmor default", guarded, none, arm(spec.ProfileRuntimeDefault, ""), "runtime/default ours", nil},
		{"AppArmor default, not loaded", node, none, arm(spec.ProfileRuntimeDefault, ""), "", errdefs.ErrFailedPrecondition},
		{"AppArmor default, privileged", guarded, nodePod, func(in *ContainerInput) { priv(in); arm(spec.ProfileRuntimeDefault, "")(in) }, "unconfined security.apparmor", nil},
		{"nothing, with AppArmor", guarded, none, none, "runtime/default ours", nil},
		{"nothing, with AppArmor, policy cri", guardedCRI, none, none, "unconfined ours", nil},
		{"nothing, with AppArmor, privileged", guarded, nodePod, priv, "unconfined", nil},
		{"AppArmor unconfined, where there is a default", guarded, none, arm(spec.ProfileUnconfined, ""), "runtime/default", nil},
		{"AppArmor loaded, where there is a default", guarded, none, arm(local, "loaded"), "runtime/default loaded", nil},
		{"AppArmor default without AppArmor", bare, none, arm(spec.ProfileRuntimeDefault, ""), "runtime/default security.apparmor", nil},
		{"AppArmor loaded", node, none, arm(local, "loaded"), "runtime/default loaded", nil},
		{"AppArmor not loaded", node, none, arm(local, "other"), "", errdefs.ErrInvalidArgument},
		{"AppArmor with no list", Node{AppArmor: true}, none, arm(local, "loaded"), "", errdefs.ErrInvalidArgument},
		{"no AppArmor", bare, none, arm(local, "loaded"), "", errdefs.ErrFailedPrecondition},
		{"AppArmor, privileged", node, nodePod, func(in *ContainerInput) { priv(in); arm(local, "loaded")(in) }, "unconfined security.apparmor", nil},
		{"AppArmor without a name", node, none, arm(local, ""), "", errdefs.ErrInvalidArgument},
		{"AppArmor by the name unconfined", node, none, arm(local, "unconfined"), "", errdefs.ErrInvalidArgument},
		{"AppArmor with a newline", node, none, arm(local, "loaded\nx"), "", errdefs.ErrInvalidArgument},
		{"AppArmor with ..", node, none, arm(local, "../loaded"), "", errdefs.ErrInvalidArgument},
		{"AppArmor with a space", node, none, arm(local, "loaded (enforce)"), "", errdefs.ErrInvalidArgument},
		{"AppArmor with //&", node, none, arm(local, "loaded//&:x:unconfined"), "", errdefs.ErrInvalidArgument},
		{"AppArmor of 256", node, none, arm(local, strings.Repeat("a", 256)), "", errdefs.ErrInvalidArgument},
		{"AppArmor default with a name", node, none, arm(spec.ProfileRuntimeDefault, "x"), "", errdefs.ErrInvalidArgument},
		{"AppArmor of no type", node, none, arm("", ""), "", errdefs.ErrInvalidArgument},

		{"SELinux without SELinux", node, none, sel, "runtime/default security.selinux_options", nil},
		{"SELinux", enforcing, none, sel, "", errdefs.ErrNotImplemented},
		{"nothing, with SELinux", enforcing, none, none, "runtime/default", nil},
	} {
		p, err := ResolveContainer(container(c.pod, c.edit), c.node)
		if c.errKind != nil || err != nil {
			if !errors.Is(err, c.errKind) {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		got := strings.TrimSpace(string(p.Seccomp.Type) + " " + p.Seccomp.Localhost)
		if p.AppArmor != "" {
			got += " " + p.AppArmor
		}
		for _, r := range p.Reasons {
			got += " " + r.Field
		}
		if got != c.want {
			t.Errorf("%s: %s", c.name, got)
		}
	}
}

func TestPaths(t *testing.T) {
	lists := func(masked, ro []string) func(*ContainerInput) {
		return security(func(s *spec.ContainerSecurity) { s.MaskedPaths, s.ReadonlyPaths = masked, ro })
	}
	none := func(*ContainerInput) {}
	all := len(maskedPaths) + len(node.MaskedPaths)
	cri := node
	cri.Policy = PolicyCRI
	for _, c := range []struct {
		name       string
		node       Node
		pod, edit  func(*ContainerInput)
		masked, ro int
		holds      string
	}{
		{"nothing asked", node, none, none, all, len(readonlyPaths), "/proc/kcore"},
		{"nothing asked, the node's ids", node, nodePod, none, all, len(readonlyPaths), "/proc/kcore"},
		{"more asked", node, none, lists([]string{"/x/"}, []string{"/y", "/proc/sys"}), all + 1, len(readonlyPaths) + 1, "/x"},
		{"fewer asked", node, none, lists([]string{"/proc/kcore"}, nil), all, len(readonlyPaths), "/proc/timer_list"},
		{"fewer asked, in a pod that asked", node, askedPod, lists([]string{"/proc/kcore"}, nil), all, len(readonlyPaths), "/proc/timer_list"},
		{"unmasked", node, askedPod, none, 0, 0, ""},
		{"privileged", node, nodePod, security(func(s *spec.ContainerSecurity) { s.Privileged = true }), 0, 0, ""},
		{"privileged, asked", node, nodePod, security(func(s *spec.ContainerSecurity) { s.Privileged, s.MaskedPaths = true, []string{"/x"} }), 0, 0, ""},
		{"nothing asked, policy cri", cri, nodePod, none, all, len(readonlyPaths), "/proc/kcore"},
		{"lists, policy cri", cri, nodePod, lists([]string{"/x/"}, []string{"/y"}), 1, 1, "/x"},
		{"one list, policy cri", cri, nodePod, lists([]string{"/proc/kcore"}, nil), 1, len(readonlyPaths), "/proc/kcore"},
		{"unmasked, policy cri", cri, askedPod, none, 0, 0, ""},
	} {
		p, err := ResolveContainer(container(c.pod, c.edit), c.node)
		if err != nil || len(p.MaskedPaths) != c.masked || len(p.ReadonlyPaths) != c.ro || c.holds != "" && !slices.Contains(p.MaskedPaths, c.holds) {
			t.Errorf("%s: %v %v, %v", c.name, p.MaskedPaths, p.ReadonlyPaths, err)
		}
	}
	for name, list := range map[string][]string{
		"relative": {"x"}, "empty": {""}, "root": {"/"}, "root by ..": {"/x/.."}, "NUL": {"/x\x00"}, "long": {"/" + strings.Repeat("a", 4096)},
		"many": make([]string, maxPaths+1),
	} {
		for _, edit := range []func(*ContainerInput){lists(list, nil), lists(nil, list)} {
			if _, err := ResolveContainer(container(edit), node); !errors.Is(err, errdefs.ErrInvalidArgument) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestCapabilities(t *testing.T) {
	caps := func(add, drop, ambient string) func(*ContainerInput) {
		return security(func(s *spec.ContainerSecurity) {
			s.Capabilities = spec.CapabilityChange{Add: strings.Fields(add), Drop: strings.Fields(drop), AddAmbient: strings.Fields(ambient)}
		})
	}
	priv := security(func(s *spec.ContainerSecurity) { s.Privileged = true })
	for _, c := range []struct {
		name      string
		edits     []func(*ContainerInput)
		bounding  int
		effective int
		kind      error
	}{
		{"default", nil, 9, 9, nil},
		{"of a user", []func(*ContainerInput){image("1000")}, 9, 0, nil},
		{"ambient of a user", []func(*ContainerInput){image("1000"), caps("", "ALL", "NET_BIND_SERVICE")}, 1, 1, nil},
		{"held, by name", []func(*ContainerInput){caps("sys_admin", "", "")}, 10, 10, nil},
		{"not held, in a user namespace", []func(*ContainerInput){caps("SYS_TIME", "", "")}, 10, 10, nil},
		{"not held, the node's ids", []func(*ContainerInput){nodePod, caps("SYS_TIME", "", "")}, 0, 0, errdefs.ErrFailedPrecondition},
		{"all", []func(*ContainerInput){caps("ALL", "", "")}, 11, 11, nil},
		{"drop all", []func(*ContainerInput){caps("", "ALL", "")}, 0, 0, nil},
		{"privileged", []func(*ContainerInput){nodePod, priv}, 11, 11, nil},
		{"privileged, dropped", []func(*ContainerInput){nodePod, priv, caps("", "ALL", "")}, 11, 11, nil},
		{"unknown", []func(*ContainerInput){caps("ROOT", "", "")}, 0, 0, errdefs.ErrInvalidArgument},
	} {
		p, err := ResolveContainer(container(c.edits...), node)
		if c.kind != nil || err != nil {
			if !errors.Is(err, c.kind) {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if len(p.Capabilities.Bounding) != c.bounding || len(p.Capabilities.Effective) != c.effective {
			t.Errorf("%s: %+v", c.name, p.Capabilities)
		}
	}
}

// A kernel that does half of what is asked does none of it.
func TestMountAttributesNeedTheKernel(t *testing.T) {
	old := node
	old.MountAttr = false
	for name, m := range map[string]spec.Mount{
		"RROUnsupported": {ContainerPath: "/m", HostPath: "/h", Readonly: true, RecursiveReadonly: true},
		"mount_options":  {ContainerPath: "/m", HostPath: "/h", Options: []string{"noexec"}},
	} {
		if _, err := ResolveContainer(container(mount(m)), node); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := ResolveContainer(container(mount(m)), old); !errors.Is(err, errdefs.ErrFailedPrecondition) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s, an old kernel: %v", name, err)
		}
	}
	if _, err := ResolveContainer(container(mount(spec.Mount{ContainerPath: "/m", HostPath: "/h", Readonly: true})), old); err != nil {
		t.Errorf("read-only needs nothing: %v", err)
	}
}

func TestOOMScore(t *testing.T) {
	for _, c := range []struct {
		asked  int64
		lowest int
		want   string
		said   bool
	}{
		{0, 0, "0", false}, {1000, 0, "1000", false}, {-998, -1000, "-998", false}, {-998, 0, "0", true}, {-1, -500, "-1", false},
		{0, 300, "300", true}, {1001, 0, "", false}, {-1001, 0, "", false}, {1 << 40, 0, "", false},
	} {
		n := node
		n.MinOOMScoreAdj = c.lowest
		p, err := ResolveContainer(container(func(in *ContainerInput) { in.Request.Resources = &spec.Resources{OOMScoreAdj: c.asked} }), n)
		got := ""
		if err == nil {
			got = fmt.Sprint(*p.OOMScoreAdj)
		}
		if got != c.want || (len(p.Reasons) > 0) != c.said || c.want == "" && !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%d, lowest %d: %s, %v, %v", c.asked, c.lowest, got, p.Reasons, err)
		}
	}
	if p, err := ResolveContainer(container(), node); err != nil || p.OOMScoreAdj != nil {
		t.Errorf("nobody asked: %v, %v", p.OOMScoreAdj, err)
	}
}

func TestCopied(t *testing.T) {
	p, err := ResolveContainer(container(security(func(s *spec.ContainerSecurity) { s.NoNewPrivileges, s.ReadonlyRootfs = true, true })), node)
	if err != nil || !p.NoNewPrivileges || !p.ReadonlyRoot || p.Privileged || len(p.Rlimits) != 1 {
		t.Errorf("%+v, %v", p, err)
	}
	p, err = ResolveContainer(container(), node)
	if err != nil || p.NoNewPrivileges || p.ReadonlyRoot || len(p.Reasons) != 0 {
		t.Errorf("%+v, %v", p, err)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestUnreadableImageRefuses(t *testing.T) {
	if _, err := ResolveContainer(container(func(in *ContainerInput) { in.Passwd = broken{} }), node); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Error(err)
	}
	if _, err := ResolveContainer(container(func(in *ContainerInput) { in.Passwd, in.Group = nil, nil }), node); err != nil {
		t.Errorf("an image without users: %v", err)
	}
}
