// Command runtimed-init is what of runtimed runs inside a pod's namespaces.
//
//	runtimed-init hold            started in new namespaces, for some milliseconds: sets host name, sysctls and lo up
//	runtimed-init init NS SID     becomes the init of a pod that shares its PID namespace
//
// It owns nothing that lasts beyond itself: the daemon pins the namespaces, places the init in its cgroup and ends it
// through that cgroup. It mounts nothing that anyone else sees, parses nothing but the daemon's own Setup, and never
// speaks to a container.
//
// The life of a holder: Setup on stdin → done, "ok" on stdout → stdin ends → exit. The life of a pod's init: see
// forkInit. It starts no program: a copy of this process that makes raw system calls alone stays behind, so that
// there is one thread, no timer, and a seccomp filter of six system calls; nobody inside the pod can trace it, because
// its memory belongs to the node's user namespace, not the pod's.
package main
