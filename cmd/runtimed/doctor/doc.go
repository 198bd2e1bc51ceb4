// Package doctor looks at a node for what keeps runtimed from working, or from keeping its promises, on it.
//
// It owns the questions and the wording of the answers. It changes nothing (a probe makes a user namespace and a file
// system context and lets them go at once), needs no daemon, and believes what the kernel does over what it says. It
// lives for one look.
package doctor
