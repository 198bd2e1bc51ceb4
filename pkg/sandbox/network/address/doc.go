// Package address is the arithmetic of pod addresses: subnets, the pool that hands out a subnet's addresses, and the
// hardware address that goes with each.
//
// It owns the rules of which address may be given and when one may be given again. It never asks the kernel and keeps
// nothing on disk: a pool lives in memory, from the claims of the recorded pods to the end of the daemon.
package address
