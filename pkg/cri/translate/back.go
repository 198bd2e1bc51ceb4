package translate

import (
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// SandboxConfig is the CRI's message of a recorded request: what Sandbox made the request from, but for fields that
// nobody heeds.
func SandboxConfig(r spec.SandboxRequest) *v1.PodSandboxConfig {
	s := r.Security
	out := &v1.PodSandboxConfig{
		Metadata: metadataBack(r.Metadata), Hostname: r.Hostname, LogDirectory: r.LogDirectory,
		Labels: r.Labels, Annotations: r.Annotations,
		Linux: &v1.LinuxPodSandboxConfig{
			CgroupParent: r.CgroupParent, Sysctls: r.Sysctls, Overhead: Resources(r.Overhead), Resources: Resources(r.Resources),
			SecurityContext: &v1.LinuxSandboxSecurityContext{
				NamespaceOptions: namespacesBack(s.Namespaces), SelinuxOptions: selinuxBack(s.SELinux),
				RunAsUser: idBack(s.RunAsUser), RunAsGroup: idBack(s.RunAsGroup), ReadonlyRootfs: s.ReadonlyRootfs,
				SupplementalGroups: s.SupplementalGroups, SupplementalGroupsPolicy: groupsPolicyBack(s.StrictGroups),
				Privileged: s.Privileged, Seccomp: profileBack(s.Seccomp), Apparmor: profileBack(s.AppArmor),
			},
		},
	}
	if d := r.DNS; d != nil {
		out.DnsConfig = &v1.DNSConfig{Servers: d.Servers, Searches: d.Searches, Options: d.Options}
	}
	for _, p := range r.Ports {
		out.PortMappings = append(out.PortMappings, &v1.PortMapping{
			Protocol: protocolsBack[p.Protocol], HostIp: p.HostIP, HostPort: int32(p.HostPort), ContainerPort: int32(p.ContainerPort),
		})
	}
	return out
}

// ContainerConfig is the CRI's message of a recorded request: what Container made the request from, but for fields that
// nobody heeds.
func ContainerConfig(r spec.ContainerRequest) *v1.ContainerConfig {
	s := r.Security
	out := &v1.ContainerConfig{
		Metadata: &v1.ContainerMetadata{Name: r.Name, Attempt: r.Attempt},
		Image:    &v1.ImageSpec{Image: r.Image, UserSpecifiedImage: r.UserImage},
		Command:  r.Command, Args: r.Args, WorkingDir: r.WorkingDir, Mounts: mountsBack(r.Mounts),
		Labels: r.Labels, Annotations: r.Annotations, LogPath: r.LogPath,
		Stdin: r.Stdin, StdinOnce: r.StdinOnce, Tty: r.TTY, StopSignal: signalBack(r.StopSignal),
		Linux: &v1.LinuxContainerConfig{
			Resources: Resources(r.Resources),
			SecurityContext: &v1.LinuxContainerSecurityContext{
				Capabilities: &v1.Capability{
					AddCapabilities: s.Capabilities.Add, DropCapabilities: s.Capabilities.Drop, AddAmbientCapabilities: s.Capabilities.AddAmbient,
				},
				Privileged: s.Privileged, NamespaceOptions: namespacesBack(s.Namespaces), SelinuxOptions: selinuxBack(s.SELinux),
				RunAsUser: idBack(s.RunAsUser), RunAsUsername: s.RunAsUsername, RunAsGroup: idBack(s.RunAsGroup),
				ReadonlyRootfs: s.ReadonlyRootfs, SupplementalGroups: s.SupplementalGroups,
				SupplementalGroupsPolicy: groupsPolicyBack(s.StrictGroups), NoNewPrivs: s.NoNewPrivileges,
				MaskedPaths: s.MaskedPaths, ReadonlyPaths: s.ReadonlyPaths,
				Seccomp: profileBack(s.Seccomp), Apparmor: profileBack(s.AppArmor),
			},
		},
	}
	for _, kv := range r.Env {
		out.Envs = append(out.Envs, &v1.KeyValue{Key: kv.Key, Value: []byte(kv.Value)})
	}
	for _, name := range r.CDIDevices {
		out.CDIDevices = append(out.CDIDevices, &v1.CDIDevice{Name: name})
	}
	for _, d := range r.Devices {
		out.Devices = append(out.Devices, &v1.Device{ContainerPath: d.ContainerPath, HostPath: d.HostPath, Permissions: d.Permissions})
	}
	return out
}

var protocolsBack = map[spec.Protocol]v1.Protocol{spec.TCP: v1.Protocol_TCP, spec.UDP: v1.Protocol_UDP, spec.SCTP: v1.Protocol_SCTP}

func selinuxBack(s spec.SELinuxOptions) *v1.SELinuxOption {
	if s == (spec.SELinuxOptions{}) {
		return nil
	}
	return &v1.SELinuxOption{User: s.User, Role: s.Role, Type: s.Type, Level: s.Level}
}

func idBack(id *int64) *v1.Int64Value {
	if id == nil {
		return nil
	}
	return &v1.Int64Value{Value: *id}
}

func groupsPolicyBack(strict bool) v1.SupplementalGroupsPolicy {
	if strict {
		return v1.SupplementalGroupsPolicy_Strict
	}
	return v1.SupplementalGroupsPolicy_Merge
}

func profileBack(p *spec.SecurityProfile) *v1.SecurityProfile {
	if p == nil {
		return nil
	}
	out := &v1.SecurityProfile{LocalhostRef: p.Localhost}
	switch p.Type {
	case spec.ProfileUnconfined:
		out.ProfileType = v1.SecurityProfile_Unconfined
	case spec.ProfileLocalhost:
		out.ProfileType = v1.SecurityProfile_Localhost
	}
	return out
}
