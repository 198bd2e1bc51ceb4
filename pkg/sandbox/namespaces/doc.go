// Package namespaces makes, pins and unpins the namespaces of pods, and starts the init of a pod that shares its PID
// namespace.
//
// It owns the pins (Layout.Pin, Layout.NetnsPin), the run directory's mount, and the helper processes that it starts:
// the holder lives for some milliseconds, the init until its cgroup is killed. It never configures a network beyond lo,
// decides no id range and no sysctl policy, and signals no process but its own helpers.
//
// The life of a pod's namespaces: Create starts a holder by one clone in all of them, with the pod's id maps; the holder
// sets host name, sysctls and lo up; each namespace is bind-mounted on its pin; the holder ends. From then on they have no
// process. Remove unpins, and they end with their last process. What is there of them is found from the sandbox's id
// alone.
//
// An init's parent is whoever reaps orphans above the daemon: the node's PID 1, or a subreaper such as a user's systemd.
// A daemon that is itself PID 1 or a subreaper must reap children that it did not start.
package namespaces
