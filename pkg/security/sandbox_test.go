package security

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func mapping(n ...uint32) (out []spec.IDMapping) {
	for i := 0; i+2 < len(n); i += 3 {
		out = append(out, spec.IDMapping{ContainerID: n[i], HostID: n[i+1], Size: n[i+2]})
	}
	return out
}

// pod is a request for a pod with namespaces of its own, changed by edits.
func pod(edits ...func(*spec.SandboxRequest)) spec.SandboxRequest {
	r := spec.SandboxRequest{Security: spec.SandboxSecurity{Namespaces: spec.Namespaces{
		Network: spec.NamespacePod, PID: spec.NamespacePod, IPC: spec.NamespacePod,
	}}}
	for _, e := range edits {
		e(&r)
	}
	return r
}

func userns(mode spec.NamespaceMode, maps ...[]spec.IDMapping) func(*spec.SandboxRequest) {
	return func(r *spec.SandboxRequest) {
		r.Security.Namespaces.User.Mode = mode
		if len(maps) > 0 {
			r.Security.Namespaces.User.UIDs, r.Security.Namespaces.User.GIDs = maps[0], maps[len(maps)-1]
		}
	}
}

func sysctls(kv ...string) func(*spec.SandboxRequest) {
	return func(r *spec.SandboxRequest) {
		r.Sysctls = map[string]string{}
		for i := 0; i+1 < len(kv); i += 2 {
			r.Sysctls[kv[i]] = kv[i+1]
		}
	}
}

func TestResolveSandbox(t *testing.T) {
	priv := func(r *spec.SandboxRequest) { r.Security.Privileged = true }
	net := func(r *spec.SandboxRequest) { r.Security.Namespaces.Network = spec.NamespaceNode }
	pid := func(r *spec.SandboxRequest) { r.Security.Namespaces.PID = spec.NamespaceNode }
	ipc := func(r *spec.SandboxRequest) { r.Security.Namespaces.IPC = spec.NamespaceNode }
	ok := mapping(0, 1000, 100000)
	cri := Node{Policy: PolicyCRI}
	for _, c := range []struct {
		name string
		r    spec.SandboxRequest
		node Node
		want string // "user" or "node", the maps' first lines, and the fields of the reasons
		kind error
	}{
		{"nothing asked", pod(), Node{}, "user", nil},
		{"own PID namespaces", pod(func(r *spec.SandboxRequest) { r.Security.Namespaces.PID = spec.NamespaceContainer }), Node{}, "user", nil},
		{"privileged", pod(priv), Node{}, "node security.privileged", nil},
		{"the node's network", pod(net), Node{}, "node security.namespaces.network", nil},
		{"the node's PIDs", pod(pid), Node{}, "node security.namespaces.pid", nil},
		{"the node's IPC", pod(ipc), Node{}, "node security.namespaces.ipc", nil},
		{"all of the node's", pod(priv, net, pid, ipc), Node{}, "node security.privileged security.namespaces.network security.namespaces.pid security.namespaces.ipc", nil},
		{"NODE", pod(userns(spec.NamespaceNode)), Node{}, "node security.namespaces.user", nil},
		{"NODE with privileged", pod(userns(spec.NamespaceNode), priv), Node{}, "node security.namespaces.user", nil},
		{"POD", pod(userns(spec.NamespacePod)), Node{}, "user", nil},
		{"POD with maps", pod(userns(spec.NamespacePod, ok)), Node{}, "user 0:1000:100000", nil},
		{"POD with two lines", pod(userns(spec.NamespacePod, mapping(0, 1000, 10, 100, 5000, 1))), Node{}, "user 0:1000:10", nil},
		{"POD that may run privileged containers", pod(userns(spec.NamespacePod, ok), priv), Node{}, "user 0:1000:100000", nil},
		{"policy cri, nothing asked", pod(), cri, "user", nil},
		{"policy cri, NODE", pod(userns(spec.NamespaceNode)), cri, "node security.namespaces.user", nil},
		{"policy cri, the node's network", pod(net), cri, "node security.namespaces.network", nil},
		{"policy cri, POD", pod(userns(spec.NamespacePod, ok)), cri, "user 0:1000:100000", nil},
		{"policy cri, POD of the pool", pod(userns(spec.NamespacePod)), cri, "user", nil},
		{"POD, the node's network", pod(userns(spec.NamespacePod, ok), net), Node{}, "", errdefs.ErrInvalidArgument},
		{"POD, the node's network, both", pod(userns(spec.NamespacePod, ok), net), Node{UserNamespacesHostNetwork: true}, "user 0:1000:100000 security.namespaces.network", nil},
		{"POD, the node's network, of the pool", pod(userns(spec.NamespacePod), net), Node{UserNamespacesHostNetwork: true}, "user security.namespaces.network", nil},
		{"POD, the node's network and PIDs", pod(userns(spec.NamespacePod, ok), net, pid), Node{UserNamespacesHostNetwork: true}, "", errdefs.ErrInvalidArgument},
		{"the node's network, both possible", pod(net), Node{UserNamespacesHostNetwork: true}, "node security.namespaces.network", nil},
		{"POD, the node's PIDs", pod(userns(spec.NamespacePod, ok), pid), Node{}, "", errdefs.ErrInvalidArgument},
		{"POD, the node's IPC", pod(userns(spec.NamespacePod), ipc), Node{}, "", errdefs.ErrInvalidArgument},
		{"CONTAINER", pod(userns(spec.NamespaceContainer)), Node{}, "", errdefs.ErrInvalidArgument},
		{"TARGET", pod(userns(spec.NamespaceTarget)), Node{}, "", errdefs.ErrInvalidArgument},
		{"NODE with maps", pod(userns(spec.NamespaceNode, ok)), Node{}, "", errdefs.ErrInvalidArgument},
		{"maps without a mode", pod(userns("", ok)), Node{}, "", errdefs.ErrInvalidArgument},
		{"users alone", pod(userns(spec.NamespacePod, ok, nil)), Node{}, "", errdefs.ErrInvalidArgument},
		{"groups alone", pod(userns(spec.NamespacePod, nil, ok)), Node{}, "", errdefs.ErrInvalidArgument},
		{"critest: two ranges", pod(userns(spec.NamespacePod, mapping(0, 1000, 100000, 0, 2000, 100000))), Node{}, "", errdefs.ErrInvalidArgument},
		{"critest: no id 0", pod(userns(spec.NamespacePod, mapping(1, 1000, 100000))), Node{}, "", errdefs.ErrInvalidArgument},
		{"the node's root", pod(userns(spec.NamespacePod, mapping(0, 0, 65536))), Node{}, "", errdefs.ErrInvalidArgument},
		{"empty line", pod(userns(spec.NamespacePod, mapping(0, 1000, 0))), Node{}, "", errdefs.ErrInvalidArgument},
		{"wraps", pod(userns(spec.NamespacePod, mapping(0, 4294967290, 10))), Node{}, "", errdefs.ErrInvalidArgument},
		{"groups wrap", pod(userns(spec.NamespacePod, ok, mapping(0, 4294967290, 10))), Node{}, "", errdefs.ErrInvalidArgument},
		{"run_as_group alone", pod(func(r *spec.SandboxRequest) { r.Security.RunAsGroup = id64(5) }), Node{}, "", errdefs.ErrInvalidArgument},
		{"run_as_group with a user", pod(func(r *spec.SandboxRequest) { r.Security.RunAsGroup, r.Security.RunAsUser = id64(5), id64(6) }), Node{}, "user", nil},
		{"network CONTAINER", pod(func(r *spec.SandboxRequest) { r.Security.Namespaces.Network = spec.NamespaceContainer }), Node{}, "", errdefs.ErrInvalidArgument},
		{"ipc TARGET", pod(func(r *spec.SandboxRequest) { r.Security.Namespaces.IPC = spec.NamespaceTarget }), Node{}, "", errdefs.ErrInvalidArgument},
		{"pid TARGET", pod(func(r *spec.SandboxRequest) { r.Security.Namespaces.PID = spec.NamespaceTarget }), Node{}, "", errdefs.ErrInvalidArgument},
		{"SELinux without SELinux", pod(func(r *spec.SandboxRequest) { r.Security.SELinux.Level = "s0" }), Node{}, "user security.selinux_options", nil},
		{"SELinux", pod(func(r *spec.SandboxRequest) { r.Security.SELinux.Level = "s0" }), Node{SELinux: true}, "", errdefs.ErrNotImplemented},
		{"sysctl", pod(sysctls("net.core.somaxconn", "1024")), Node{}, "user", nil},
		{"sysctl of the node", pod(sysctls("vm.swappiness", "1")), Node{}, "", errdefs.ErrInvalidArgument},
		{"sysctl, the node's network", pod(net, sysctls("net.core.somaxconn", "1024")), Node{}, "", errdefs.ErrInvalidArgument},
		{"sysctl, the node's IPC", pod(ipc, sysctls("kernel.shm_rmid_forced", "1")), Node{}, "", errdefs.ErrInvalidArgument},
		{"sysctl with + (CVE-2022-0811)", pod(sysctls("kernel.shm_rmid_forced", "1+kernel.core_pattern=|/x")), Node{}, "", errdefs.ErrInvalidArgument},
	} {
		p, err := ResolveSandbox(c.r, c.node)
		if c.kind != nil || err != nil {
			if !errors.Is(err, c.kind) || p.UserNamespace || p.Sysctls != nil {
				t.Errorf("%s: %+v, %v", c.name, p, err)
			}
			continue
		}
		got := "node"
		if p.UserNamespace {
			got = "user"
		}
		if len(p.UIDs) > 0 {
			got += fmt.Sprintf(" %d:%d:%d", p.UIDs[0].ContainerID, p.UIDs[0].HostID, p.UIDs[0].Size)
		}
		for _, r := range p.Reasons {
			got += " " + r.Field
			if r.Text == "" {
				t.Errorf("%s: %s says nothing", c.name, r.Field)
			}
		}
		if got != c.want {
			t.Errorf("%s: %s", c.name, got)
		}
	}
}

func TestSandboxSysctls(t *testing.T) {
	const ping, ports = "net.ipv4.ping_group_range", "net.ipv4.ip_unprivileged_port_start"
	net := func(r *spec.SandboxRequest) { r.Security.Namespaces.Network = spec.NamespaceNode }
	for _, c := range []struct {
		name        string
		r           spec.SandboxRequest
		node        Node
		ping, ports string
	}{
		{"the pool's range", pod(), Node{}, "0 65535", "0"},
		{"a smaller pool", pod(), Node{PoolSize: 1000}, "0 999", "0"},
		{"the node's ids", pod(userns(spec.NamespaceNode)), Node{}, "0 2147483647", "0"},
		{"explicit", pod(userns(spec.NamespacePod, mapping(0, 1000, 100000))), Node{}, "0 99999", "0"},
		{"explicit, groups count", pod(userns(spec.NamespacePod, mapping(0, 1000, 100000), mapping(0, 1000, 10))), Node{}, "0 9", "0"},
		{"explicit, with a gap", pod(userns(spec.NamespacePod, mapping(0, 1000, 10, 20, 5000, 10))), Node{}, "0 9", "0"},
		{"asked otherwise", pod(sysctls(ping, "1 0", ports, "1024")), Node{}, "1 0", "1024"},
		{"tabs", pod(sysctls(ping, "0\t10")), Node{}, "0 10", "0"},
		{"the node's network", pod(net), Node{}, "", ""},
	} {
		p, err := ResolveSandbox(c.r, c.node)
		if err != nil || p.Sysctls[ping] != c.ping || p.Sysctls[ports] != c.ports {
			t.Errorf("%s: %v, %v", c.name, p.Sysctls, err)
		}
	}
}

func TestErrorsNameTheField(t *testing.T) {
	for field, r := range map[string]spec.SandboxRequest{
		"security.namespaces.network": pod(userns(spec.NamespacePod), func(r *spec.SandboxRequest) { r.Security.Namespaces.Network = spec.NamespaceNode }),
		"security.namespaces.user":    pod(userns(spec.NamespaceTarget)),
		"kernel.core_pattern":         pod(sysctls("kernel.core_pattern", "x")),
	} {
		if _, err := ResolveSandbox(r, Node{}); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}
