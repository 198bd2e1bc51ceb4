// Package control serves runtimed.control.v1: signals, waiting and removal on exit, which the CRI lacks and the command
// line needs, and what a person asks of the daemon first.
//
// It owns the service's semantics. It checks its messages, calls one method of Runtime and never decides; errors,
// panics and logging are the door's (pkg/cri), on whose server it is registered. A Service is made once and ends with
// the context that New is given, so that no call waits for a container while the daemon wants to leave.
package control
