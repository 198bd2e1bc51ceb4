// Package logs reads a container's log, whole or as it grows.
//
// It owns parsing, joining the parts of lines, the last n lines, and following a log across its rotation. It never
// writes (the monitor does, with logs/entry and logs/logfile) and never asks the daemon: a log is a file.
//
// A reader lives for one Read: it opens the log at its path, goes on in each file that replaces it, and ends at the end
// of the log or, when it follows, once its caller says that the container has ended and everything is read.
package logs
