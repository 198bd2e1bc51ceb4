// Package spec holds the plain data that the rooms of runtimed hand to each other: what was asked (requests), what was
// decided (profiles) and what is recorded (records and facts).
//
// It owns the vocabulary and the pure functions that derive a state from recorded facts. It never touches the kernel,
// a file or the network, and it imports no other package of this module. CRI messages are translated into these types
// once, in pkg/cri/translate; nothing behind the door knows the CRI.
package spec
