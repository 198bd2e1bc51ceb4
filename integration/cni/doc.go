// Package cni tests whole daemons with CNI plugins: those of Debian, those of today, scripted ones that misbehave, and the
// two worked examples of docs/cni.md, block by block.
//
// It owns no product code. Everything happens in the namespaces of daemontest; nodes beside the first are network
// namespaces in them.
package cni
