// Package resources tests limits with whole daemons: what a container is created with, what it is given later, and what the
// kernel has of it, on whichever control groups the machine has: v1, hybrid, v2 with cgroupfs and v2 with systemd. Nothing in it
// asks which; files are looked up by the names that either version gives them.
//
// It owns no code, only tests; daemons come from daemontest. It is never part of the product.
package resources
