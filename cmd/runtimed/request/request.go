package request

import (
	"fmt"
	"strings"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// LabelKey marks the pods that the command line made: they hold one container, and go with it.
const (
	LabelKey   = "runtimed.cli"
	LabelValue = "run"
)

// LogPath is a container's log, below the directory that the runtime keeps with the pod's record.
const LogPath = "container.log"

// Options are the flags of run, as they were given.
type Options struct {
	Name       string
	UID        string // of the pod, random
	Image      string
	Args       []string
	Entrypoint *string // nil: the image's; "" is none
	Workdir    string
	Network    string // "pod" or "host"
	Ports      []string
	Volumes    []string
	Env        []string
	User       string
	Memory     string
	CPUs       string
	PidsLimit  int64
	ReadOnly   bool
	Privileged bool
	// LookupEnv answers -e NAME without a value; nil knows none.
	LookupEnv func(string) (string, bool)
	// Getwd resolves a relative path of -v; nil refuses those.
	Getwd func() (string, error)
}

// Build makes the pod and its container. The image is as the user wrote it. Errors name the flag.
func Build(o Options) (*v1.PodSandboxConfig, *v1.ContainerConfig, error) {
	if err := check(o); err != nil {
		return nil, nil, err
	}
	network, err := networkMode(o.Network)
	if err != nil {
		return nil, nil, err
	}
	ports, err := ports(o.Ports)
	if err != nil {
		return nil, nil, err
	}
	if len(ports) > 0 && network == v1.NamespaceMode_NODE {
		return nil, nil, fmt.Errorf("-p %s: a pod on the node's network has no ports of its own to publish", o.Ports[0])
	}
	if err := checkName(o.Name); err != nil {
		return nil, nil, err
	}
	namespaces := &v1.NamespaceOption{Network: network, Pid: v1.NamespaceMode_CONTAINER, Ipc: v1.NamespaceMode_POD}
	labels := map[string]string{LabelKey: LabelValue}
	container, err := container(o, namespaces)
	if err != nil {
		return nil, nil, err
	}
	container.Labels = labels
	pod := &v1.PodSandboxConfig{
		Metadata:     &v1.PodSandboxMetadata{Name: o.Name, Uid: o.UID, Namespace: "default"},
		PortMappings: ports,
		Labels:       labels,
		Linux: &v1.LinuxPodSandboxConfig{SecurityContext: &v1.LinuxSandboxSecurityContext{
			NamespaceOptions: namespaces, Privileged: o.Privileged, Seccomp: seccomp(o.Privileged),
		}},
	}
	if network == v1.NamespaceMode_POD {
		pod.Hostname = hostname(o.Name)
	}
	return pod, container, nil
}

func container(o Options, namespaces *v1.NamespaceOption) (*v1.ContainerConfig, error) {
	mounts, err := volumes(o.Volumes, o.Getwd)
	if err != nil {
		return nil, err
	}
	env, err := environment(o.Env, o.LookupEnv)
	if err != nil {
		return nil, err
	}
	resources, err := resources(o)
	if err != nil {
		return nil, err
	}
	security := &v1.LinuxContainerSecurityContext{
		NamespaceOptions: namespaces, Privileged: o.Privileged, ReadonlyRootfs: o.ReadOnly,
		NoNewPrivs: !o.Privileged, Seccomp: seccomp(o.Privileged),
	}
	if err := user(o.User, security); err != nil {
		return nil, err
	}
	out := &v1.ContainerConfig{
		Metadata: &v1.ContainerMetadata{Name: o.Name},
		Image:    &v1.ImageSpec{Image: o.Image, UserSpecifiedImage: o.Image},
		Args:     o.Args, WorkingDir: o.Workdir, Envs: env, Mounts: mounts, LogPath: LogPath,
		Linux: &v1.LinuxContainerConfig{Resources: resources, SecurityContext: security},
	}
	return out, command(o, out)
}

// command: with an entrypoint of its own a container does not take the image's words either.
func command(o Options, c *v1.ContainerConfig) error {
	switch {
	case o.Entrypoint == nil:
	case *o.Entrypoint != "":
		c.Command = []string{*o.Entrypoint}
	case len(o.Args) == 0:
		return fmt.Errorf("--entrypoint \"\": name the command behind the image, because none of the image's is used")
	default:
		c.Command, c.Args = o.Args[:1], o.Args[1:]
	}
	return nil
}

func networkMode(s string) (v1.NamespaceMode, error) {
	switch s {
	case "", "pod":
		return v1.NamespaceMode_POD, nil
	case "host":
		return v1.NamespaceMode_NODE, nil
	}
	return 0, fmt.Errorf("--network %q: pod and host are possible", s)
}

func seccomp(privileged bool) *v1.SecurityProfile {
	if privileged {
		return &v1.SecurityProfile{ProfileType: v1.SecurityProfile_Unconfined}
	}
	return &v1.SecurityProfile{ProfileType: v1.SecurityProfile_RuntimeDefault}
}

// checkName refuses what lists, ids and paths could be mistaken for.
func checkName(s string) error {
	ok := len(s) > 0 && len(s) <= 63
	for i, r := range s {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		ok = ok && (letter || i > 0 && strings.ContainsRune("-_.", r))
	}
	if !ok {
		return fmt.Errorf("--name %q: 1 to 63 letters, digits, '-', '_' and '.' are possible, and the first is a letter or a digit", s)
	}
	return nil
}

// hostname is the name as a label of RFC 1123, or "" where nothing of it is left: then the runtime chooses.
func hostname(name string) string {
	return strings.Trim(strings.NewReplacer("_", "-", ".", "-").Replace(strings.ToLower(name)), "-")
}
