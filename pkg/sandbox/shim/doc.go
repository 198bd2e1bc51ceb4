// Package shim speaks with a container's monitor through its control socket.
//
// It owns the client's side of the protocol in pkg/sandbox/monitor and the deadline of every call. It never starts,
// signals or ends a shim, and never takes an answer for more than it says: whether the container lives is told by its
// process and its record.
//
// A Client is a path and lives as long as anyone likes; each call is a connection of its own, so there is nothing to
// keep, to reconnect or to close. A shim that is gone is Unavailable, one that does not answer (stopped, say) is
// DeadlineExceeded within Timeout.
package shim
