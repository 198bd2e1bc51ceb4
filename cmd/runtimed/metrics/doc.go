// Package metrics counts what the daemon does, for Prometheus: calls, steps, ends of containers, leaks, and how many
// containers, pods and images there are.
//
// A Set is made once; the rooms' hooks fill it, none of which waits. It is served to whoever scrapes it and costs nothing
// between two scrapes. It names no container, pod or image: what one of them uses is the CRI's to tell.
package metrics
