// Package supervise is the monitor: the process that stands beside one container for as long as it runs.
//
// It owns the container's output (which it writes to the log), its standard input and terminal, its control socket,
// started.json and exit.json. It is the parent of the container's init, reaps it, kills what is left of its group, and
// states the exit once. It never decides anything about the container, never signals it otherwise, and knows nothing
// of images, namespaces or configuration.
//
// Its life: the creator becomes it by execve. It opens log and socket, writes started.json, lets the program go and
// says "ready"; until then any error kills the container and is said instead. From then on only the container's end
// ends it, or SIGKILL: a full disk, a bad request or a signal does not.
//
// There is one of it per container, so it is small: one thread of ours in one epoll loop, that allocates nothing while
// it runs, buffers that are given back to the kernel in quiet times, and no fmt, net, os or encoding/json (a test holds
// it to that). It wakes up only for an event, or once after the last one.
package supervise
