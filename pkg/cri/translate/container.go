package translate

import (
	"path"
	"regexp"
	"strings"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Container translates CreateContainer. sandboxID may be a prefix of an id.
func Container(r *v1.CreateContainerRequest) (sandboxID string, out spec.ContainerRequest, err error) {
	var c check
	config := r.GetConfig()
	if config == nil {
		c.fail("config", "is missing")
	}
	sandboxID = c.id("pod_sandbox_id", r.GetPodSandboxId())
	out = spec.ContainerRequest{
		Name:        c.name("config.metadata.name", config.GetMetadata().GetName()),
		Attempt:     config.GetMetadata().GetAttempt(),
		Image:       c.reference("config.image.image", config.GetImage().GetImage()),
		UserImage:   c.text("config.image.user_specified_image", config.GetImage().GetUserSpecifiedImage(), maxReference),
		Command:     c.words("config.command", config.GetCommand()),
		Args:        c.words("config.args", config.GetArgs()),
		WorkingDir:  config.GetWorkingDir(),
		Env:         c.env("config.envs", config.GetEnvs()),
		Mounts:      c.mounts("config.mounts", config.GetMounts()),
		Devices:     c.devices("config.devices", config.GetDevices()),
		CDIDevices:  c.cdiDevices(config),
		Labels:      c.opaque("config.labels", config.GetLabels()),
		Annotations: c.opaque("config.annotations", config.GetAnnotations()),
		LogPath:     c.logPath("config.log_path", config.GetLogPath()),
		Stdin:       config.GetStdin(),
		StdinOnce:   config.GetStdinOnce(),
		TTY:         config.GetTty(),
		StopSignal:  c.signal("config.stop_signal", config.GetStopSignal()),
		Resources:   c.resources("config.linux.resources", config.GetLinux().GetResources()),
		Security:    c.containerSecurity("config.linux.security_context", config.GetLinux().GetSecurityContext()),
	}
	if out.WorkingDir != "" {
		c.abs("config.working_dir", out.WorkingDir)
	}
	if len(out.Command) > 0 && out.Command[0] == "" {
		c.fail("config.command[0]", "is empty")
	}
	return sandboxID, out, c.err
}

func (c *check) containerSecurity(field string, s *v1.LinuxContainerSecurityContext) spec.ContainerSecurity {
	out := spec.ContainerSecurity{
		Capabilities:   c.capabilities(field+".capabilities", s.GetCapabilities()),
		Privileged:     s.GetPrivileged(),
		Namespaces:     c.namespaces(field+".namespace_options", s.GetNamespaceOptions()),
		SELinux:        c.selinux(field+".selinux_options", s.GetSelinuxOptions()),
		RunAsUser:      c.optionalID(field+".run_as_user", s.GetRunAsUser()),
		RunAsUsername:  c.username(field+".run_as_username", s.GetRunAsUsername()),
		RunAsGroup:     c.optionalID(field+".run_as_group", s.GetRunAsGroup()),
		ReadonlyRootfs: s.GetReadonlyRootfs(),

		SupplementalGroups: c.groups(field+".supplemental_groups", s.GetSupplementalGroups()),
		StrictGroups:       c.strictGroups(field+".supplemental_groups_policy", s.GetSupplementalGroupsPolicy()),

		NoNewPrivileges: s.GetNoNewPrivs(),
		MaskedPaths:     c.paths(field+".masked_paths", s.GetMaskedPaths()),
		ReadonlyPaths:   c.paths(field+".readonly_paths", s.GetReadonlyPaths()),
		Seccomp:         c.seccomp(field, s.GetSeccomp(), s.GetSeccompProfilePath()),
		AppArmor:        c.apparmor(field, s.GetApparmor(), s.GetApparmorProfile()),
	}
	switch {
	case out.RunAsUser != nil && out.RunAsUsername != "":
		c.fail(field+".run_as_username", "is given beside run_as_user: give one of them")
	case out.RunAsGroup != nil && out.RunAsUser == nil && out.RunAsUsername == "":
		c.fail(field+".run_as_group", "needs a user: set run_as_user or run_as_username too")
	}
	return out
}

// username is looked up in the image's passwd, whose fields end at a colon.
func (c *check) username(field, s string) string {
	if strings.ContainsAny(c.text(field, s, maxPart), ": /") {
		c.fail(field, "%s is not a user's name", shown(s))
	}
	return s
}

var capabilityName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,63}$`)

func (c *check) capabilities(field string, in *v1.Capability) spec.CapabilityChange {
	list := func(name string, names []string) []string {
		field := field + "." + name
		if !c.count(field, len(names), maxPart) {
			return nil
		}
		for i, n := range names {
			if !capabilityName.MatchString(n) {
				c.fail(at(field, i), "%s is not the name of a capability", shown(n))
			}
		}
		return names
	}
	return spec.CapabilityChange{
		Add:        list("add_capabilities", in.GetAddCapabilities()),
		Drop:       list("drop_capabilities", in.GetDropCapabilities()),
		AddAmbient: list("add_ambient_capabilities", in.GetAddAmbientCapabilities()),
	}
}

func (c *check) paths(field string, in []string) []string {
	if !c.count(field, len(in), maxItems) {
		return nil
	}
	for i, p := range in {
		c.abs(at(field, i), p)
	}
	return in
}

// words checks command lines.
func (c *check) words(field string, in []string) []string {
	size := 0
	if !c.count(field, len(in), maxGroups) {
		return nil
	}
	for i, w := range in {
		size += len(w) + 1
		c.data(at(field, i), w, maxArgument)
	}
	if size > maxArguments {
		c.fail(field, "has %d bytes in all: at most %d are possible", size, maxArguments)
	}
	return in
}

// env checks variables: a value is bytes in the CRI, but config.json holds text.
func (c *check) env(field string, in []*v1.KeyValue) []spec.KeyValue {
	if !c.count(field, len(in), maxGroups) {
		return nil
	}
	out, size := make([]spec.KeyValue, 0, len(in)), 0
	for i, kv := range in {
		key, value := kv.GetKey(), string(kv.GetValue())
		switch {
		case key == "":
			c.fail(at(field, i)+".key", "is missing")
		case strings.Contains(key, "="):
			c.fail(at(field, i)+".key", "%s holds a '='", shown(key))
		}
		c.text(at(field, i)+".key", key, maxPath)
		c.data(at(field, i)+".value", value, maxArgument-len(key)-1)
		size += len(key) + len(value) + 2
		out = append(out, spec.KeyValue{Key: key, Value: value})
	}
	if size > maxArguments {
		c.fail(field, "have %d bytes in all: at most %d are possible", size, maxArguments)
	}
	return out
}

// logPath stays below the sandbox's log directory.
func (c *check) logPath(field, s string) string {
	if s == "" {
		return ""
	}
	if path.IsAbs(s) {
		c.fail(field, "%s is absolute: it belongs below the sandbox's log_directory", shown(s))
	}
	if base := path.Base(c.path(field, s)); base == "." || strings.HasSuffix(s, "/") {
		c.fail(field, "%s does not name a file", shown(s))
	}
	return s
}
