// Package leak finds what a daemon has left on its node and no record names: processes, mounts, pins, links, rules,
// addresses, control groups, directories, ranges of ids.
//
// It owns the comparison of the records with what the kernel and the file system show. It changes nothing, asks no
// daemon, and so works beside a living one and after a dead one. What a daemon is just making or taking down looks like a
// leak for a moment: a finding counts when a second look, after Options.Settle, sees it too.
//
// It lives for one Find: records first, then each kind of object, each found by id alone.
package leak
