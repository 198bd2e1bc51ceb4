// Package capability decides the five capability sets of a container (capabilities(7)).
//
// It owns the names, the order in which ALL, adds and drops count, and what the daemon itself holds as their limit. It
// never changes a capability of any process; Held only reads.
package capability
