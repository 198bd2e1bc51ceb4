// Package stats tests what the daemon tells of what containers and pods use, and of itself, against what the kernel and
// du(1) say: whole daemons, in namespaces of their own.
package stats
