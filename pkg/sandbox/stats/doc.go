// Package stats reads what containers and pods use: their control groups, their links, their writable layers.
//
// A Collector remembers, for each object that somebody asks about, two readings of its processor time and the size of its
// writable layer. Two goroutines keep them fresh while somebody asks, one reading and one walking, and end when nobody has
// asked for two minutes: a node whose statistics nobody reads spends nothing on them. It never asks a shim, holds no
// namespace open, and never fails a list for one object.
package stats
