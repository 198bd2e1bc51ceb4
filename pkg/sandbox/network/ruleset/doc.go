// Package ruleset is the plan of the network's nftables tables: which chains, sets and rules there are, what a pod adds
// to them, and what a request's port mappings mean.
//
// It owns every expression and every byte of a key. It never asks the kernel: it is a function of the configuration
// and of the pods, and fills batches that others send. A Ruleset lives as long as the daemon; only the identifiers
// that a batch gives its sets change in it, so batches are filled one at a time.
package ruleset
