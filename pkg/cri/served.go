package cri

// notServed are the RPCs of the CRI that this release refuses, each with the end of a sentence for the caller. A test
// checks that every other RPC is served.
var notServed = map[string]string{
	"StreamContainerStats":      "statistics come with a later release",
	"StreamPodSandboxStats":     "statistics come with a later release",
	"StreamPodSandboxMetrics":   "metrics come with a later release",
	"UpdateContainerResources":  "a container keeps the limits that it was created with; make a new one",
	"Exec":                      "streaming comes with a later release; ExecSync runs a command and returns its output",
	"Attach":                    "streaming comes with a later release; the container's log has its output",
	"PortForward":               "streaming comes with a later release; the pod's address can be reached from the node",
	"ContainerStats":            "statistics come with a later release",
	"ListContainerStats":        "statistics come with a later release",
	"PodSandboxStats":           "statistics come with a later release",
	"ListPodSandboxStats":       "statistics come with a later release",
	"CheckpointContainer":       "checkpoints come with a later release",
	"CheckpointPod":             "checkpoints come with a later release",
	"RestorePod":                "checkpoints come with a later release",
	"ListMetricDescriptors":     "metrics come with a later release",
	"ListPodSandboxMetrics":     "metrics come with a later release",
	"UpdatePodSandboxResources": "the kubelet owns the pod's group and has changed its limits already",
}
