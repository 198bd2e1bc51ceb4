// Package plugin runs one CNI plugin: a foreign program, as root, in the daemon's network namespace.
//
// It owns the program's time, its output and its end: a plugin that hangs, floods or leaves children behind costs its
// caller an error, and the node nothing. It decides nothing about networks, and never retries but for a program that is
// just being written.
//
// # Life of a run
//
// The program starts in a process group of its own, with two variables in its environment that all of its descendants
// inherit: one names the daemon (by its cache directory), one this run. When the caller's context ends, or the program
// writes more than it may, the group is killed, and then whoever else carries the run's name, because a child may have
// left the group. A program that ends well may leave a child that lives on (the DHCP plugin's way).
//
// EndStrays finds the programs of a daemon that was killed: they would go on making what nobody records.
package plugin
