// Package forward connects to the loopback of a pod.
//
// It owns the moment in which a thread of the daemon is in a pod's network namespace: one socket is made there, and
// nothing else done; a socket stays in the namespace that it was made in, wherever it is used. No program of the pod's
// and none of the node's is run for it. It never resolves a name, and never listens.
//
// A connection belongs to its caller from Dial on. Nothing is kept.
package forward
