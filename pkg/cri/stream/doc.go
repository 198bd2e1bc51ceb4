// Package stream serves what the CRI's Exec, Attach and PortForward answer with an address for: SPDY/3.1 and WebSocket
// connections that carry a command's streams, a container's, or those to a port of a pod.
//
// It owns the listener, the tickets and the connections; what happens at a stream's other end is Runtime's. A ticket is
// bought with an RPC, lives for a minute, is used up by the first request that names it, and is good for one verb on one
// container or pod. A session lives from the upgrade of its connection to the runtime's answer or the client's end,
// whichever comes first: then its context ends, and nothing of it stays.
//
// The wire formats are the libraries' (k8s.io/streaming, k8s.io/cri-streaming). The sessions are not: the library's know
// no version 5 of the WebSocket protocol and no tunnel, which clients speak, and they leave goroutines behind when a
// client goes away half-way.
package stream
