// Package entry is the CRI log format, byte by byte: what a container wrote becomes entries, and back.
//
//	2006-01-02T15:04:05.999999999Z stdout F content\n
//
// The timestamp is RFC 3339 with nanoseconds, in UTC. An entry's content holds no newline: tag F says that the
// container wrote one after it, tag P that it did not (yet). So the contents, each F's followed by a newline, are
// exactly what the container wrote; a carriage return stays. A line of more than PartSize bytes is cut into parts, and
// output that ends without a newline ends with a P, as containerd and CRI-O write it.
//
// It owns the format and the state of lines that are not finished. It never makes a system call and never asks for
// the time. The monitor links it, so it imports no fmt and no time.
//
// An Encoder lives as long as its log; its Streams as long as their pipes.
package entry
