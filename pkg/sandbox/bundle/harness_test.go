package bundle

import (
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

var (
	sid = strings.Repeat("5", 64)
	cid = strings.Repeat("c", 64)
)

// input is a container that asked for nothing, in a pod that asked for nothing, changed by edits.
func input(edits ...func(*Input)) Input {
	ids := []spec.IDMapping{{ContainerID: 0, HostID: 0x40000000, Size: 65536}}
	score := 0
	caps := []string{"CAP_CHOWN", "CAP_KILL"}
	in := Input{
		Layout: spec.Layout{Root: "/var/lib/runtimed", Run: "/run/runtimed", Netns: "/run/netns"},
		Sandbox: spec.Sandbox{
			ID: sid, CgroupPath: "/runtimed/pods/" + sid,
			Request: spec.SandboxRequest{Hostname: "web-1", Security: spec.SandboxSecurity{Namespaces: spec.Namespaces{
				Network: spec.NamespacePod, PID: spec.NamespaceContainer, IPC: spec.NamespacePod,
			}}},
			Profile: spec.SandboxProfile{UserNamespace: true, UIDs: ids, GIDs: ids},
		},
		Container: spec.Container{
			ID: cid, SandboxID: sid, LogPath: "/var/log/pods/x/0.log", CgroupPath: "/runtimed/pods/" + sid + "/" + cid,
			Image: spec.ImageUse{
				ID: "sha256:1", Layers: []string{"sha256:a", "sha256:b"},
				Config: spec.ImageConfig{Entrypoint: []string{"/entry"}, Cmd: []string{"serve"}, Env: []string{"PATH=/bin", "A=image"}},
			},
			Profile: spec.Profile{
				User:         spec.User{Groups: []uint32{0}, Home: "/root"},
				Capabilities: specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps, Inheritable: []string{}, Ambient: []string{}},
				Seccomp:      spec.SecurityProfile{Type: spec.ProfileRuntimeDefault},
				MaskedPaths:  []string{"/proc/kcore"}, ReadonlyPaths: []string{"/proc/sys"},
				OOMScoreAdj: &score,
				Rlimits:     []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 1024, Hard: 20000}},
			},
		},
		ShimCgroup: "/runtimed/shims",
		Seccomp:    &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Architectures: []specs.Arch{specs.ArchX86_64}},
	}
	for _, e := range edits {
		e(&in)
	}
	return in
}

func hostIDs(in *Input) { in.Container.Profile.HostIDs = true }

func hostPod(in *Input) {
	in.Sandbox.Profile = spec.SandboxProfile{}
	in.Sandbox.Request.Security.Namespaces = spec.Namespaces{Network: spec.NamespaceNode, PID: spec.NamespaceNode, IPC: spec.NamespaceNode}
}

func privileged(in *Input) {
	in.Container.Profile.Privileged = true
	in.Container.Profile.HostIDs = true
	in.Container.Profile.Seccomp.Type = spec.ProfileUnconfined
	in.Container.Profile.MaskedPaths, in.Container.Profile.ReadonlyPaths = nil, nil
	in.Seccomp = nil
}

func mountOf(m spec.Mount) func(*Input) {
	return func(in *Input) { in.Container.Request.Mounts = append(in.Container.Request.Mounts, m) }
}
