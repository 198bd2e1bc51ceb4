// Package monitor is what the creator tells the monitor when it becomes it: the same process, by execve.
//
// It owns the command line of runtimed-monitor and nothing else: no system call, no file. It is a leaf that both sides
// link, and the monitor must stay small, so it imports no fmt, net or encoding/json.
//
// An Args lives from the creator's execve, which writes it as an argument list, to the monitor's first lines, which
// read it back. Nothing stores it.
package monitor
