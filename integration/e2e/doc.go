// Package e2e tests the whole runtime from outside: what a kubelet, a node and a program in a pod see.
//
// It owns no code, only tests; daemons come from daemontest. It is never part of the product.
package e2e
