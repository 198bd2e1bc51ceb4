// Package sandbox runs pods: it takes a request down a visible list of named steps, watches what runs, and takes it
// all down again by one way, which serves errors, removal and recovery alike.
//
// It owns the records below Layout.Sandboxes, the order of the steps and the locks. It never parses a CRI message, an
// image or a log, and it never decides what a container may do: that is pkg/security's answer.
//
// The life of a sandbox: record → cgroup → namespaces → network → files → ready; of a container: record; then, at
// Start, bundle → shim. The directories and the living shims are the state: the daemon may be killed at any moment.
package sandbox
