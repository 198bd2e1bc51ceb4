package cri_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	invalid  = codes.InvalidArgument
	unserved = codes.Unimplemented
)

// bad is one cause: a change to a good request, the code, and what the error must name.
type bad struct {
	name  string
	spoil func(*v1.PodSandboxConfig)
	names string
}

func security(c *v1.PodSandboxConfig) *v1.LinuxSandboxSecurityContext { return c.Linux.SecurityContext }

var badPods = []bad{
	{"no metadata", func(c *v1.PodSandboxConfig) { c.Metadata = nil }, "config.metadata is missing"},
	{"no name", func(c *v1.PodSandboxConfig) { c.Metadata.Name = "" }, "config.metadata.name"},
	{"no uid", func(c *v1.PodSandboxConfig) { c.Metadata.Uid = "" }, "config.metadata.uid"},
	{"no namespace", func(c *v1.PodSandboxConfig) { c.Metadata.Namespace = "" }, "config.metadata.namespace"},
	{"name with a slash", func(c *v1.PodSandboxConfig) { c.Metadata.Name = "a/b" }, "config.metadata.name"},
	{"name ..", func(c *v1.PodSandboxConfig) { c.Metadata.Name = ".." }, "config.metadata.name"},
	{"name with a newline", func(c *v1.PodSandboxConfig) { c.Metadata.Name = "a\nb" }, "config.metadata.name"},
	{"name with a NUL", func(c *v1.PodSandboxConfig) { c.Metadata.Name = "a\x00b" }, "config.metadata.name"},
	{"name with an escape sequence", func(c *v1.PodSandboxConfig) { c.Metadata.Name = "a\x1b[2J" }, "config.metadata.name"},
	{"name that writes backwards", func(c *v1.PodSandboxConfig) { c.Metadata.Name = "a\u202eb" }, "config.metadata.name"},
	{"name of 64 KiB", func(c *v1.PodSandboxConfig) { c.Metadata.Name = strings.Repeat("n", 64<<10) }, "config.metadata.name"},
	{"namespace with a slash", func(c *v1.PodSandboxConfig) { c.Metadata.Namespace = "../x" }, "config.metadata.namespace"},
	{"hostname too long", func(c *v1.PodSandboxConfig) { c.Hostname = strings.Repeat("h", 65) }, "config.hostname"},
	{"hostname with a blank", func(c *v1.PodSandboxConfig) { c.Hostname = "a b" }, "config.hostname"},
	{"hostname with an empty label", func(c *v1.PodSandboxConfig) { c.Hostname = "a..b" }, "config.hostname"},
	{"hostname that begins with -", func(c *v1.PodSandboxConfig) { c.Hostname = "-a" }, "config.hostname"},
	{"relative log directory", func(c *v1.PodSandboxConfig) { c.LogDirectory = "logs" }, "config.log_directory"},
	{"log directory with ..", func(c *v1.PodSandboxConfig) { c.LogDirectory = "/var/../etc" }, "config.log_directory"},
	{"log directory too long", func(c *v1.PodSandboxConfig) { c.LogDirectory = strings.Repeat("/abc", 2000) }, "config.log_directory"},
	{"resolver that is a name", func(c *v1.PodSandboxConfig) { c.DnsConfig.Servers = []string{"dns.example"} }, "dns_config.servers[0]"},
	{"resolver with a newline", func(c *v1.PodSandboxConfig) { c.DnsConfig.Servers = []string{"1.1.1.1\nsearch x"} }, "dns_config.servers[0]"},
	{"100 resolvers", func(c *v1.PodSandboxConfig) { c.DnsConfig.Servers = make([]string, 100) }, "dns_config.servers"},
	{"search with a newline", func(c *v1.PodSandboxConfig) { c.DnsConfig.Searches = []string{"x\nnameserver 6.6.6.6"} }, "dns_config.searches[0]"},
	{"search with a blank", func(c *v1.PodSandboxConfig) { c.DnsConfig.Searches = []string{"a b"} }, "dns_config.searches[0]"},
	{"empty option", func(c *v1.PodSandboxConfig) { c.DnsConfig.Options = []string{""} }, "dns_config.options[0]"},
	{"negative port", func(c *v1.PodSandboxConfig) { c.PortMappings[0].HostPort = -1 }, "port_mappings[0].host_port"},
	{"port 65536", func(c *v1.PodSandboxConfig) { c.PortMappings[0].ContainerPort = 65536 }, "port_mappings[0].container_port"},
	{"no container port", func(c *v1.PodSandboxConfig) { c.PortMappings[0].ContainerPort = 0 }, "port_mappings[0].container_port"},
	{"protocol 9", func(c *v1.PodSandboxConfig) { c.PortMappings[0].Protocol = 9 }, "port_mappings[0].protocol"},
	{"host address", func(c *v1.PodSandboxConfig) { c.PortMappings[0].HostIp = "localhost" }, "port_mappings[0].host_ip"},
	{"port twice", func(c *v1.PodSandboxConfig) { c.PortMappings = append(c.PortMappings, c.PortMappings[0]) }, "port_mappings[1]"},
	{"labels of 2 MiB", func(c *v1.PodSandboxConfig) { c.Labels["x"] = strings.Repeat("l", 2<<20) }, "config.labels"},
	{"annotations of 2 MiB", func(c *v1.PodSandboxConfig) { c.Annotations["x"] = strings.Repeat("l", 2<<20) }, "config.annotations"},
	{"cgroup parent with ..", func(c *v1.PodSandboxConfig) { c.Linux.CgroupParent = "/kubepods/../../x" }, "cgroup_parent"},
	{"cgroup parent with a newline", func(c *v1.PodSandboxConfig) { c.Linux.CgroupParent = "/a\nb" }, "cgroup_parent"},
	{"sysctl with +", func(c *v1.PodSandboxConfig) { c.Linux.Sysctls = map[string]string{"kernel.shm+": "1"} }, "sysctls"},
	{"sysctl with a newline", func(c *v1.PodSandboxConfig) { c.Linux.Sysctls = map[string]string{"kernel.shmmax\nx": "1"} }, "sysctls"},
	{"sysctl with ..", func(c *v1.PodSandboxConfig) { c.Linux.Sysctls = map[string]string{"../etc/passwd": "1"} }, "sysctls"},
	{"sysctl value with a newline", func(c *v1.PodSandboxConfig) { c.Linux.Sysctls = map[string]string{"kernel.shmmax": "1\n2"} }, "sysctls"},
	{"sysctl in both forms", func(c *v1.PodSandboxConfig) {
		c.Linux.Sysctls = map[string]string{"kernel.shmmax": "1", "kernel/shmmax": "2"}
	}, "sysctls"},
	{"overhead with a period of 1 s and more", func(c *v1.PodSandboxConfig) {
		c.Linux.Overhead = &v1.LinuxContainerResources{CpuPeriod: 2000000}
	}, "config.linux.overhead.cpu_period"},
	{"group without user", func(c *v1.PodSandboxConfig) { security(c).RunAsGroup = &v1.Int64Value{Value: 1} }, "run_as_group"},
	{"network CONTAINER", func(c *v1.PodSandboxConfig) { security(c).NamespaceOptions.Network = v1.NamespaceMode_CONTAINER }, "namespace_options.network"},
	{"ipc TARGET", func(c *v1.PodSandboxConfig) { security(c).NamespaceOptions.Ipc = v1.NamespaceMode_TARGET }, "namespace_options.ipc"},
	{"pid TARGET", func(c *v1.PodSandboxConfig) {
		security(c).NamespaceOptions.Pid, security(c).NamespaceOptions.TargetId = v1.NamespaceMode_TARGET, "x"
	}, "namespace_options.pid"},
	{"pid 77", func(c *v1.PodSandboxConfig) { security(c).NamespaceOptions.Pid = 77 }, "namespace_options.pid"},
	{"target without TARGET", func(c *v1.PodSandboxConfig) { security(c).NamespaceOptions.TargetId = "x" }, "target_id"},
	{"userns CONTAINER", func(c *v1.PodSandboxConfig) {
		security(c).NamespaceOptions.UsernsOptions.Mode = v1.NamespaceMode_CONTAINER
	}, "userns_options.mode"},
	{"userns NODE with mappings", func(c *v1.PodSandboxConfig) {
		security(c).NamespaceOptions.UsernsOptions.Mode = v1.NamespaceMode_NODE
	}, "userns_options"},
	{"mapping of no ids", func(c *v1.PodSandboxConfig) { security(c).NamespaceOptions.UsernsOptions.Uids[0].Length = 0 }, "uids[0].length"},
	{"mapping that wraps", func(c *v1.PodSandboxConfig) {
		security(c).NamespaceOptions.UsernsOptions.Uids[0].HostId = 1<<32 - 1
	}, "uids[0]"},
	{"mappings that overlap", func(c *v1.PodSandboxConfig) {
		u := security(c).NamespaceOptions.UsernsOptions
		u.Gids = append(u.Gids, &v1.IDMapping{HostId: 1<<20 + 5, ContainerId: 100000, Length: 1})
	}, "gids[1]"},
	{"users mapped, groups not", func(c *v1.PodSandboxConfig) { security(c).NamespaceOptions.UsernsOptions.Gids = nil }, "userns_options"},
	{"seccomp type 5", func(c *v1.PodSandboxConfig) { security(c).Seccomp = &v1.SecurityProfile{ProfileType: 5} }, "seccomp.profile_type"},
	{"seccomp disagrees with itself", func(c *v1.PodSandboxConfig) {
		security(c).Seccomp, security(c).SeccompProfilePath = &v1.SecurityProfile{}, "unconfined"
	}, "seccomp_profile_path"},
	{"old seccomp word", func(c *v1.PodSandboxConfig) { security(c).SeccompProfilePath = "default" }, "seccomp_profile_path"},
	{"groups policy 3", func(c *v1.PodSandboxConfig) { security(c).SupplementalGroupsPolicy = 3 }, "supplemental_groups_policy"},
}

func TestBadPods(t *testing.T) {
	d := open(t)
	for _, tc := range badPods {
		t.Run(tc.name, func(t *testing.T) {
			r := pod()
			tc.spoil(r.Config)
			_, err := d.rt.RunPodSandbox(t.Context(), r)
			refused(t, err, invalid, tc.names)
		})
	}
	list, err := d.rt.ListPodSandbox(t.Context(), &v1.ListPodSandboxRequest{})
	if err != nil || len(list.Items) != 0 {
		t.Errorf("bad requests left %v, %v", list.Items, err)
	}
	if _, err := d.rt.RunPodSandbox(t.Context(), pod()); err != nil {
		t.Errorf("the good request: %v", err)
	}
}

// refused checks an error's code and that it names its field, briefly.
func refused(t *testing.T, err error, code codes.Code, names string) {
	t.Helper()
	s := status.Convert(err)
	if s.Code() != code || !strings.Contains(s.Message(), names) {
		t.Errorf("error is %v, want %v with %q", err, code, names)
	}
	if len(s.Message()) > 1000 || strings.Contains(s.Message(), "\n") {
		t.Errorf("error is not one short line: %.300q", s.Message())
	}
}

type badContainer struct {
	name  string
	spoil func(*v1.ContainerConfig)
	code  codes.Code
	names string
}

func ctrSecurity(c *v1.ContainerConfig) *v1.LinuxContainerSecurityContext {
	return c.Linux.SecurityContext
}

func ids(v int64) *v1.Int64Value { return &v1.Int64Value{Value: v} }

var badContainers = []badContainer{
	{"no metadata", func(c *v1.ContainerConfig) { c.Metadata = nil }, invalid, "config.metadata.name"},
	{"name with a slash", func(c *v1.ContainerConfig) { c.Metadata.Name = "/" }, invalid, "config.metadata.name"},
	{"no image", func(c *v1.ContainerConfig) { c.Image = nil }, invalid, "config.image.image"},
	{"image with a blank", func(c *v1.ContainerConfig) { c.Image.Image = "busy box" }, invalid, "config.image.image"},
	{"image with a newline", func(c *v1.ContainerConfig) { c.Image.Image = "busybox\n" }, invalid, "config.image.image"},
	{"empty program", func(c *v1.ContainerConfig) { c.Command = []string{""} }, invalid, "config.command[0]"},
	{"argument with a NUL", func(c *v1.ContainerConfig) { c.Args = []string{"a", "b\x00"} }, invalid, "config.args[1]"},
	{"argument of 128 KiB", func(c *v1.ContainerConfig) { c.Args = []string{strings.Repeat("x", 128<<10)} }, invalid, "config.args[0]"},
	{"arguments of 3 MiB", func(c *v1.ContainerConfig) {
		c.Args = strings.Split(strings.Repeat(strings.Repeat("x", 99<<10)+" ", 30), " ")
	}, invalid, "config.args"},
	{"relative working directory", func(c *v1.ContainerConfig) { c.WorkingDir = "work" }, invalid, "config.working_dir"},
	{"variable without a name", func(c *v1.ContainerConfig) { c.Envs[0].Key = "" }, invalid, "config.envs[0].key"},
	{"variable with = in its name", func(c *v1.ContainerConfig) { c.Envs[0].Key = "A=B" }, invalid, "config.envs[0].key"},
	{"variable with a NUL", func(c *v1.ContainerConfig) { c.Envs[0].Value = []byte{0} }, invalid, "config.envs[0].value"},
	{"variable that is no text", func(c *v1.ContainerConfig) { c.Envs[0].Value = []byte{0xff} }, invalid, "config.envs[0].value"},
	{"mount of nothing", func(c *v1.ContainerConfig) { c.Mounts[0].HostPath = "" }, invalid, "mounts[0].host_path"},
	{"mount of a relative path", func(c *v1.ContainerConfig) { c.Mounts[0].HostPath = "data" }, invalid, "mounts[0].host_path"},
	{"mount of a path with ..", func(c *v1.ContainerConfig) { c.Mounts[0].HostPath = "/srv/../etc" }, invalid, "mounts[0].host_path"},
	{"mount to nowhere", func(c *v1.ContainerConfig) { c.Mounts[0].ContainerPath = "" }, invalid, "mounts[0].container_path"},
	{"mount over the root", func(c *v1.ContainerConfig) { c.Mounts[0].ContainerPath = "//." }, invalid, "mounts[0].container_path"},
	{"mount to a path with ..", func(c *v1.ContainerConfig) { c.Mounts[0].ContainerPath = "/a/../../b" }, invalid, "mounts[0].container_path"},
	{"mount twice", func(c *v1.ContainerConfig) {
		c.Mounts = append(c.Mounts, &v1.Mount{ContainerPath: "/data/", HostPath: "/x"})
	}, invalid, "mounts[1].container_path"},
	{"10,000 mounts", func(c *v1.ContainerConfig) { c.Mounts = make([]*v1.Mount, 10000) }, invalid, "config.mounts"},
	{"propagation 4", func(c *v1.ContainerConfig) { c.Mounts[0].Propagation = 4 }, invalid, "mounts[0].propagation"},
	{"recursive read-only, writable", func(c *v1.ContainerConfig) {
		c.Mounts[0].Readonly, c.Mounts[0].RecursiveReadOnly = false, true
	}, invalid, "mounts[0].recursive_read_only"},
	{"recursive read-only, shared", func(c *v1.ContainerConfig) {
		c.Mounts[0].RecursiveReadOnly, c.Mounts[0].Propagation = true, v1.MountPropagation_PROPAGATION_BIDIRECTIONAL
	}, invalid, "mounts[0].recursive_read_only"},
	{"image mount", func(c *v1.ContainerConfig) {
		c.Mounts[0].HostPath, c.Mounts[0].Image = "", &v1.ImageSpec{Image: "x"}
		c.Mounts[0].Propagation = v1.MountPropagation_PROPAGATION_BIDIRECTIONAL
	}, invalid, "mounts[0].propagation"},
	{"image mount without a name", func(c *v1.ContainerConfig) {
		c.Mounts[0].HostPath, c.Mounts[0].Image = "", &v1.ImageSpec{}
	}, invalid, "mounts[0].image.image"},
	{"image mount with maps", func(c *v1.ContainerConfig) {
		one := []*v1.IDMapping{{Length: 1}}
		c.Mounts[0] = &v1.Mount{ContainerPath: "/data", Image: &v1.ImageSpec{Image: "x"}, UidMappings: one, GidMappings: one}
	}, invalid, "mounts[0].uidMappings"},
	{"image path out of the image", func(c *v1.ContainerConfig) {
		c.Mounts[0] = &v1.Mount{ContainerPath: "/data", Image: &v1.ImageSpec{Image: "x"}, ImageSubPath: "a/../../b"}
	}, invalid, "mounts[0].image_sub_path"},
	{"absolute image path", func(c *v1.ContainerConfig) {
		c.Mounts[0] = &v1.Mount{ContainerPath: "/data", Image: &v1.ImageSpec{Image: "x"}, ImageSubPath: "/etc"}
	}, invalid, "mounts[0].image_sub_path"},
	{"image mount with a path", func(c *v1.ContainerConfig) { c.Mounts[0].Image = &v1.ImageSpec{Image: "x"} }, invalid, "mounts[0]"},
	{"image path without image", func(c *v1.ContainerConfig) { c.Mounts[0].ImageSubPath = "x" }, invalid, "mounts[0].image_sub_path"},
	{"mount options", func(c *v1.ContainerConfig) { c.Mounts[0].MountOptions = []string{"noexec", "suid"} }, invalid, "mounts[0].mount_options[1]"},
	{"mount options twice", func(c *v1.ContainerConfig) { c.Mounts[0].MountOptions = []string{"nodev", "nodev"} }, invalid, "mounts[0].mount_options[1]"},
	{"relative device", func(c *v1.ContainerConfig) { c.Devices[0].HostPath = "dev/fuse" }, invalid, "devices[0].host_path"},
	{"device without a place", func(c *v1.ContainerConfig) { c.Devices[0].ContainerPath = "" }, invalid, "devices[0].container_path"},
	{"device permissions", func(c *v1.ContainerConfig) { c.Devices[0].Permissions = "rwx" }, invalid, "devices[0].permissions"},
	{"device permissions twice", func(c *v1.ContainerConfig) { c.Devices[0].Permissions = "rr" }, invalid, "devices[0].permissions"},
	{"no device permissions", func(c *v1.ContainerConfig) { c.Devices[0].Permissions = "" }, invalid, "devices[0].permissions"},
	{"CDI device", func(c *v1.ContainerConfig) { c.CDIDevices = []*v1.CDIDevice{{Name: "a/b"}} }, invalid, "config.CDI_devices[0].name"},
	{"CDI device without a name", func(c *v1.ContainerConfig) { c.CDIDevices = []*v1.CDIDevice{nil} }, invalid, "config.CDI_devices[0].name"},
	{"CDI annotation", func(c *v1.ContainerConfig) { c.Annotations = map[string]string{"cdi.k8s.io/x": "v/c=a,nonsense"} }, invalid, `config.annotations["cdi.k8s.io/x"]`},
	{"absolute log path", func(c *v1.ContainerConfig) { c.LogPath = "/etc/passwd" }, invalid, "config.log_path"},
	{"log path with ..", func(c *v1.ContainerConfig) { c.LogPath = "../../etc/passwd" }, invalid, "config.log_path"},
	{"log path that is a directory", func(c *v1.ContainerConfig) { c.LogPath = "c/" }, invalid, "config.log_path"},
	{"signal 99", func(c *v1.ContainerConfig) { c.StopSignal = 99 }, invalid, "config.stop_signal"},
	{"user -1", func(c *v1.ContainerConfig) { ctrSecurity(c).RunAsUser = ids(-1) }, invalid, "run_as_user.value"},
	{"user 2^31", func(c *v1.ContainerConfig) { ctrSecurity(c).RunAsUser = ids(1 << 31) }, invalid, "run_as_user.value"},
	{"user 2^32", func(c *v1.ContainerConfig) { ctrSecurity(c).RunAsUser = ids(1 << 32) }, invalid, "run_as_user.value"},
	{"group 2^63-1", func(c *v1.ContainerConfig) { ctrSecurity(c).RunAsGroup = ids(1<<63 - 1) }, invalid, "run_as_group.value"},
	{"extra group -1", func(c *v1.ContainerConfig) { ctrSecurity(c).SupplementalGroups = []int64{0, -1} }, invalid, "supplemental_groups[1]"},
	{"70,000 groups", func(c *v1.ContainerConfig) { ctrSecurity(c).SupplementalGroups = make([]int64, 70000) }, invalid, "supplemental_groups"},
	{"user by number and name", func(c *v1.ContainerConfig) { ctrSecurity(c).RunAsUsername = "root" }, invalid, "run_as_username"},
	{"user name with a colon", func(c *v1.ContainerConfig) {
		ctrSecurity(c).RunAsUser, ctrSecurity(c).RunAsUsername = nil, "a:b"
	}, invalid, "run_as_username"},
	{"group without user", func(c *v1.ContainerConfig) { ctrSecurity(c).RunAsUser = nil }, invalid, "run_as_group"},
	{"capability with a blank", func(c *v1.ContainerConfig) {
		ctrSecurity(c).Capabilities.AddCapabilities = []string{"NET ADMIN"}
	}, invalid, "add_capabilities[0]"},
	{"1000 capabilities", func(c *v1.ContainerConfig) {
		ctrSecurity(c).Capabilities.DropCapabilities = make([]string, 1000)
	}, invalid, "drop_capabilities"},
	{"relative masked path", func(c *v1.ContainerConfig) { ctrSecurity(c).MaskedPaths = []string{"proc"} }, invalid, "masked_paths[0]"},
	{"read-only path with ..", func(c *v1.ContainerConfig) { ctrSecurity(c).ReadonlyPaths = []string{"/proc/.."} }, invalid, "readonly_paths[0]"},
	{"TARGET without id", func(c *v1.ContainerConfig) {
		ctrSecurity(c).NamespaceOptions.Pid = v1.NamespaceMode_TARGET
	}, invalid, "target_id"},
	{"seccomp localhost, relative", func(c *v1.ContainerConfig) {
		ctrSecurity(c).Seccomp = &v1.SecurityProfile{ProfileType: v1.SecurityProfile_Localhost, LocalhostRef: "p.json"}
	}, invalid, "seccomp (localhost)"},
	{"seccomp localhost, nothing", func(c *v1.ContainerConfig) {
		ctrSecurity(c).Seccomp = &v1.SecurityProfile{ProfileType: v1.SecurityProfile_Localhost}
	}, invalid, "seccomp (localhost)"},
	{"seccomp default with a file", func(c *v1.ContainerConfig) {
		ctrSecurity(c).Seccomp = &v1.SecurityProfile{LocalhostRef: "/p.json"}
	}, invalid, "seccomp.localhost_ref"},
	{"AppArmor name with a newline", func(c *v1.ContainerConfig) {
		ctrSecurity(c).Apparmor = &v1.SecurityProfile{ProfileType: v1.SecurityProfile_Localhost, LocalhostRef: "a\nb"}
	}, invalid, "apparmor (localhost)"},
	{"AppArmor name with ..", func(c *v1.ContainerConfig) { ctrSecurity(c).ApparmorProfile = "localhost/../x" }, invalid, "apparmor (localhost)"},
	{"SELinux type with a colon", func(c *v1.ContainerConfig) { ctrSecurity(c).SelinuxOptions = &v1.SELinuxOption{Type: "a:b"} }, invalid, "selinux_options.type"},
	{"negative memory", func(c *v1.ContainerConfig) { c.Linux.Resources.MemoryLimitInBytes = -1 }, invalid, "memory_limit_in_bytes"},
	{"swap below memory", func(c *v1.ContainerConfig) { c.Linux.Resources.MemorySwapLimitInBytes = 1 }, invalid, "memory_swap_limit_in_bytes"},
	{"negative shares", func(c *v1.ContainerConfig) { c.Linux.Resources.CpuShares = -1 }, invalid, "cpu_shares"},
	{"quota of 10 µs", func(c *v1.ContainerConfig) { c.Linux.Resources.CpuQuota = 10 }, invalid, "cpu_quota"},
	{"oom score 1001", func(c *v1.ContainerConfig) { c.Linux.Resources.OomScoreAdj = 1001 }, invalid, "oom_score_adj"},
	{"cpus backwards", func(c *v1.ContainerConfig) { c.Linux.Resources.CpusetCpus = "3-1" }, invalid, "cpuset_cpus"},
	{"cpus that are no list", func(c *v1.ContainerConfig) { c.Linux.Resources.CpusetMems = "all" }, invalid, "cpuset_mems"},
	{"huge page size", func(c *v1.ContainerConfig) { c.Linux.Resources.HugepageLimits[0].PageSize = "../2MB" }, invalid, "hugepage_limits[0].page_size"},
	{"unified key with a slash", func(c *v1.ContainerConfig) { c.Linux.Resources.Unified = map[string]string{"../memory.max": "1"} }, invalid, "unified"},
	{"unified key of the core", func(c *v1.ContainerConfig) { c.Linux.Resources.Unified = map[string]string{"cgroup.procs": "1"} }, invalid, "unified"},
}

func TestBadContainers(t *testing.T) {
	d := open(t)
	id := d.sandbox(t)
	for _, tc := range badContainers {
		t.Run(tc.name, func(t *testing.T) {
			r := ctr(id)
			tc.spoil(r.Config)
			_, err := d.rt.CreateContainer(t.Context(), r)
			refused(t, err, tc.code, tc.names)
		})
	}
	list, err := d.rt.ListContainers(t.Context(), &v1.ListContainersRequest{})
	if err != nil || len(list.Containers) != 0 {
		t.Errorf("bad requests left %v, %v", list.Containers, err)
	}
	if _, err := d.rt.CreateContainer(t.Context(), ctr(id)); err != nil {
		t.Errorf("the good request: %v", err)
	}
}
