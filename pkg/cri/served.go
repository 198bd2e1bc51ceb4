package cri

// notServed are the RPCs of the CRI that this release refuses, each with the end of a sentence for the caller. A test
// checks that every other RPC is served.
var notServed = map[string]string{
	"UpdateContainerResources":  "a container keeps the limits that it was created with; make a new one",
	"Exec":                      "streaming comes with a later release; ExecSync runs a command and returns its output",
	"Attach":                    "streaming comes with a later release; the container's log has its output",
	"PortForward":               "streaming comes with a later release; the pod's address can be reached from the node",
	"CheckpointContainer":       "checkpoints come with a later release",
	"CheckpointPod":             "checkpoints come with a later release",
	"RestorePod":                "checkpoints come with a later release",
	"UpdatePodSandboxResources": "the kubelet owns the pod's group and has changed its limits already",
}
