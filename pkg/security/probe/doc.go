// Package probe reads from the kernel what security.Node says about this machine.
//
// It owns the reading, and no decision: it changes nothing, and what it cannot read counts as not there, so that
// nothing is given for it. A Node is read once, when the daemon starts; the list of AppArmor's profiles alone is read
// anew at each question, because profiles come and go.
package probe
