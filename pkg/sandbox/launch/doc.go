// Package launch starts runtimed-shim: a creator for each container that is started, and a stage for each exec session.
//
// It owns the moment between the daemon and a shim: which descriptors a shim inherits, when a creator may begin, what
// its report says, how long an exec session may take, how much of its output is kept, the
// caller's streams and terminal of a session, and the reaping of the processes that it started. It carries an attached
// caller's streams, never to or from the log, writes no record, and decides nothing about a container. What a living
// monitor is asked goes through pkg/sandbox/shim.
//
// # Life
//
// Start: the creator is started in a copy of the host's mount namespace and waits; its pid, start ticks and boot id are
// recorded by the caller; it gets its go; it reports once. After "ready" the same process is the monitor. It outlives
// the daemon: the lock that it holds on the record, not any handle of ours, says later that it is there (Alive).
//
// Children are reaped without a thread each: one goroutine is parked on a pidfd and waits for the process when that is
// readable. A shim whose daemon was restarted belongs to the init of the machine (or the nearest subreaper), which
// reaps it. So a caller never waits for a shim by pid, and needs no SIGCHLD.
package launch
