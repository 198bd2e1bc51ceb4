// Command runtimed-monitor supervises one container: see package supervise. runtimed-shim becomes it by execve.
//
// The runtime shall not look for a CPU limit: it would hold two files of the control group's open for ever.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0
package main

import (
	"syscall"

	"github.com/runtimed/runtimed/cmd/shim/monitor/supervise"
)

func main() { syscall.Exit(supervise.Main()) }
