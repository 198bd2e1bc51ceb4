// Package monitor is what the creator tells the monitor when it becomes it (the same process, by execve), and what the
// daemon and the monitor say to each other afterwards.
//
// It owns the command line of runtimed-monitor and its control protocol, both as bytes: no system call, no file. It is
// a leaf that all sides link, and the monitor must stay small, so it imports no fmt, net or encoding/json.
//
// An Args lives from the creator's execve, which writes it as an argument list, to the monitor's first lines, which
// read it back. Nothing stores it. A packet lives for one request.
package monitor
