// Package hostpath looks at the host paths of a request's mounts before anything is mounted.
//
// It owns the answer to "what is there": a path is opened once, without side effects (O_PATH), and what the kernel found
// is named. It mounts nothing, makes nothing, and keeps nothing open. A Resolver is plain data and may be used at once by
// any number of callers.
package hostpath
