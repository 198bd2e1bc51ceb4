package cri

// notServed are the RPCs of the CRI that this release refuses, each with the end of a sentence for the caller. A test
// checks that every other RPC is served.
var notServed = map[string]string{
	"CheckpointContainer": "checkpoints come with a later release",
	"CheckpointPod":       "checkpoints come with a later release",
	"RestorePod":          "checkpoints come with a later release",
}
