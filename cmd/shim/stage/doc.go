// Package stage runs one command in a running container and says how it ended.
//
// It owns the session: its cgroup below the container's, its time limit, and the end of its whole tree. It never
// touches what the command writes: the command holds the launcher's pipes itself, or a terminal whose master end goes to
// the launcher. It takes everything but the command from the container's own config.json and libcontainer's state: user,
// environment, working directory, capabilities, seccomp and the rest.
//
// # Life
//
// The launcher starts it in the host's namespaces with the descriptors that pkg/sandbox/launch/wire names, and writes
// one request. The stage makes the session's cgroup, joins a process to the container, waits, and writes one outcome.
// Steps of the flow "exec": group → run → wait; the group's undo ends the session.
//
// The session's cgroup is where it can be killed at once, whatever it forked: on cgroup v2 a child of the container's
// group, without controllers, so that the container's group stays a leaf for them; on v1, and on hybrid machines, a
// child of its freezer group alone, where a frozen tree cannot fork away from a walk. All other v1 groups are the
// container's own.
//
// Time limit and lifeline (the launcher is gone, or gave up) kill that tree. Where the command ended by itself, what it
// left running in the background is moved to the container's group and lives on, as with containerd and CRI-O. A stage
// that is itself killed leaves the group behind; the launcher then has it killed, or the next daemon does, before it
// serves.
package stage
