package translate

// Ignored are the fields of requests that change nothing, by message and field, each with its reason. Every field that
// is neither here nor honoured is refused; a test sets each of them in turn.
var Ignored = map[string]string{
	"VersionRequest.version": "the CRI asks for no negotiation: kubelets send their own API version",

	"PodSandboxConfig.windows": "this is a runtime for Linux",
	"ContainerConfig.windows":  "this is a runtime for Linux",

	"UpdateContainerResourcesRequest.windows":     "this is a runtime for Linux",
	"UpdateContainerResourcesRequest.annotations": "no experimental resource is known here",

	"CreateContainerRequest.sandbox_config": "the configuration that RunPodSandbox recorded counts",
	"PullImageRequest.sandbox_config":       "only the namespace is read, for a policy",

	"ImageSpec.annotations":          "the kubelet copies the pod's annotations there; they choose nothing",
	"ImageSpec.user_specified_image": "the image is looked up by ImageSpec.image; a container's status returns this one",
	"ImageSpec.image_ref":            "it repeats what the image's status says; ImageSpec.image is what is mounted",
	"ImageSpec.runtime_handler":      "every handler shares one image store; an unknown handler is refused where it is sent with an image RPC",
}

// RecordedOnly are fields that are kept and returned, and act on nothing here: a sandbox runs no program of an image.
var RecordedOnly = map[string]string{
	"LinuxSandboxSecurityContext.selinux_options":            "acts on processes, of which containers have their own request",
	"LinuxSandboxSecurityContext.run_as_user":                "acts on processes, of which containers have their own request",
	"LinuxSandboxSecurityContext.run_as_group":               "acts on processes, of which containers have their own request",
	"LinuxSandboxSecurityContext.supplemental_groups":        "acts on processes, of which containers have their own request",
	"LinuxSandboxSecurityContext.supplemental_groups_policy": "acts on processes, of which containers have their own request",
	"LinuxSandboxSecurityContext.seccomp":                    "acts on processes, of which containers have their own request",
	"LinuxSandboxSecurityContext.seccomp_profile_path":       "acts on processes, of which containers have their own request",
	"LinuxSandboxSecurityContext.apparmor":                   "acts on processes, of which containers have their own request",
	"LinuxSandboxSecurityContext.readonly_rootfs":            "a sandbox has no root file system",

	"LinuxPodSandboxConfig.overhead": "the kubelet owns the pod's group and its limits",

	"PodSandboxConfig.annotations": "opaque; a network of CNI plugins reads those for bandwidth and addresses (docs/cni.md)",
	"PodSandboxConfig.labels":      "opaque, but for filters",
	"ContainerConfig.annotations":  "opaque, but for the devices that cdi.k8s.io/ names",
	"ContainerConfig.labels":       "opaque, but for filters",
	"Mount.selinux_relabel":        "acts only where SELinux does",
}
