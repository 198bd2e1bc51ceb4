// Package many tests and measures a daemon that has more containers than one message holds, and how long the questions take that a
// kubelet asks all the time. The containers are records of a real one, copied while no daemon runs.
//
// It owns no code, only tests; daemons come from daemontest. It is never part of the product.
package many
