// Package policy tests whole daemons under the node policy cri, and the fields of containers that other programs count
// on: who its users are, whose processes it sees, what is mounted in it, and what is refused.
package policy
