// Package idmap hands out ranges of the node's user and group ids, and checks maps that a request brings.
//
// It owns the arithmetic of id ranges. It records nothing and asks the kernel nothing: who holds which range is its
// caller's knowledge. A Range lives from before the record of its sandbox is written until nothing of the sandbox is
// left.
package idmap
