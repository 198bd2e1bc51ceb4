// Package cni connects pods through CNI plugins: the other implementation of the sandbox's port Network.
//
// It owns the choice of the network (package conf), the running of the plugins (package plugin, through libcni), what is
// remembered of each pod's attachment, and the judgement of what a plugin answers. It never touches links, addresses or
// rules itself, never removes a namespace, and never ends a pod's processes: a pod is dead before its DEL begins, so a
// plugin holds up nobody but the caller of that pod.
//
// # Life of a Network
//
// New touches nothing. Recover, called once, reads the configuration, ends the plugins of a daemon that was killed, has
// the plugins collect garbage (GC), goes on with the DELs that are owed, and asks the plugins about the living pods
// (CHECK); all that runs plugins happens behind its back. Then Add and Remove run concurrently. Close ends the goroutines
// and leaves every pod connected.
//
// # Life of an attachment
//
// It is a file, <cache>/attached/<sandbox>.json, written before the first plugin runs, with everything that a DEL needs:
// the whole configuration and all arguments, whatever becomes of the files that they came from. Remove renames it into
// <cache>/leaving and runs the DEL; the file goes when that has succeeded. A DEL that fails is repeated with growing
// pauses, by every Remove, and after a restart, for as long as the file is there. libcni keeps the plugins' result beside
// it, in <cache>/results.
package cni
