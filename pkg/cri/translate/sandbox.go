package translate

import (
	"path"
	"regexp"
	"strings"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Sandbox translates RunPodSandbox.
func Sandbox(r *v1.RunPodSandboxRequest) (spec.SandboxRequest, error) {
	var c check
	config := r.GetConfig()
	if config == nil {
		c.fail("config", "is missing")
	}
	linux := config.GetLinux()
	out := spec.SandboxRequest{
		Metadata:     c.metadata("config.metadata", config.GetMetadata()),
		Hostname:     c.hostname("config.hostname", config.GetHostname()),
		LogDirectory: config.GetLogDirectory(),
		DNS:          c.dns("config.dns_config", config.GetDnsConfig()),
		Ports:        c.ports("config.port_mappings", config.GetPortMappings()),
		Labels:       c.opaque("config.labels", config.GetLabels()),
		Annotations:  c.opaque("config.annotations", config.GetAnnotations()),
		CgroupParent: c.cgroupParent("config.linux.cgroup_parent", linux.GetCgroupParent()),
		Sysctls:      c.sysctls("config.linux.sysctls", linux.GetSysctls()),
		Overhead:     c.resources("config.linux.overhead", linux.GetOverhead()),
		Resources:    c.resources("config.linux.resources", linux.GetResources()),
		Handler:      c.text("runtime_handler", r.GetRuntimeHandler(), maxName),
		Security:     c.sandboxSecurity("config.linux.security_context", linux.GetSecurityContext()),
	}
	if out.LogDirectory != "" {
		c.abs("config.log_directory", out.LogDirectory)
	}
	return out, c.err
}

func (c *check) metadata(field string, m *v1.PodSandboxMetadata) spec.Metadata {
	if m == nil {
		c.fail(field, "is missing")
	}
	return spec.Metadata{
		Name:      c.name(field+".name", m.GetName()),
		UID:       c.name(field+".uid", m.GetUid()),
		Namespace: c.name(field+".namespace", m.GetNamespace()),
		Attempt:   m.GetAttempt(),
	}
}

func (c *check) sandboxSecurity(field string, s *v1.LinuxSandboxSecurityContext) spec.SandboxSecurity {
	out := spec.SandboxSecurity{
		Namespaces:     c.namespaces(field+".namespace_options", s.GetNamespaceOptions()),
		SELinux:        c.selinux(field+".selinux_options", s.GetSelinuxOptions()),
		RunAsUser:      c.optionalID(field+".run_as_user", s.GetRunAsUser()),
		RunAsGroup:     c.optionalID(field+".run_as_group", s.GetRunAsGroup()),
		ReadonlyRootfs: s.GetReadonlyRootfs(),

		SupplementalGroups: c.groups(field+".supplemental_groups", s.GetSupplementalGroups()),
		StrictGroups:       c.strictGroups(field+".supplemental_groups_policy", s.GetSupplementalGroupsPolicy()),

		Privileged: s.GetPrivileged(),
		Seccomp:    c.seccomp(field, s.GetSeccomp(), s.GetSeccompProfilePath()),
		AppArmor:   c.apparmor(field, s.GetApparmor(), ""),
	}
	if out.RunAsGroup != nil && out.RunAsUser == nil {
		c.fail(field+".run_as_group", "needs a user: set run_as_user too")
	}
	if out.Namespaces.PID == spec.NamespaceTarget {
		c.fail(field+".namespace_options.pid", "TARGET is for containers only")
	}
	return out
}

// cgroupParent accepts the cgroupfs form, which the kubelet sends whatever its driver.
func (c *check) cgroupParent(field, s string) string {
	if s == "" {
		return ""
	}
	return path.Join("/", c.path(field, s))
}

// sysctlName is Kubernetes' form of a sysctl's name, with dots or with slashes (k8s.io/kubernetes, SysctlContainSlashFmt).
var sysctlName = regexp.MustCompile(`^[a-z0-9]([-_a-z0-9]*[a-z0-9])?([./][a-z0-9]([-_a-z0-9]*[a-z0-9])?)*$`)

func (c *check) sysctls(field string, m map[string]string) map[string]string {
	if len(m) == 0 || !c.count(field, len(m), maxItems) {
		return nil
	}
	out := make(map[string]string, len(m))
	for k, v := range m {
		if len(k) > maxName || !sysctlName.MatchString(k) {
			c.fail(field, "%s is not the name of a sysctl", shown(k))
		}
		name := dotted(k)
		if _, twice := out[name]; twice {
			c.fail(field, "%s is given twice", shown(name))
		}
		out[name] = c.text(field+"["+shown(k)+"]", v, maxSysctlValue)
	}
	return out
}

// dotted writes a sysctl's name with dots, as sysctl(8) does: where a slash comes first, slashes separate and a dot is
// part of a name, which is then written as a slash.
func dotted(name string) string {
	if i := strings.IndexAny(name, "./"); i < 0 || name[i] == '.' {
		return name
	}
	return strings.NewReplacer("/", ".", ".", "/").Replace(name)
}
