// Package logfile writes a container's log to a file that may be full, and may be replaced.
//
// It owns the file's descriptor and the account of what was lost. It never makes its caller wait for room: what cannot
// be written is dropped, counted, and marked in the log when something can be written again, by an entry like
//
//	2006-01-02T15:04:05.999999999Z stderr F runtimed: 123 bytes of log lost: no space left on device
//
// The file always consists of whole entries: what a failed write left of one is cut off. A stream whose unfinished line
// lost its rest is closed by an empty F entry before the marker, so that no reader joins unrelated bytes.
//
// A File lives from the container's start to its end; Reopen changes what is below it. The monitor links this package,
// so it imports no fmt and no os.
package logfile
