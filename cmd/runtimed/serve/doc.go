// Package serve is the daemon: it wires the rooms together from a configuration and lets them serve.
//
// It owns the order of the start (directories, locks, rooms, recovery, socket), the locks that keep a second daemon
// off, and the end. It never decides about a sandbox, a container or an image. Run does all of it and returns when its
// context ends: then calls in flight are finished, and every container runs on.
package serve
