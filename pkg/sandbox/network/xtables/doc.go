// Package xtables reads one thing of the iptables of old, which nftables does not show: whether its FORWARD chain drops
// by policy.
//
// It owns the layout of the kernel's answers to getsockopt(2). It changes nothing and loads no module: a table that is
// not there is not asked for. It keeps nothing.
package xtables
