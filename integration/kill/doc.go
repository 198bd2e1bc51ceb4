// Package kill tests that the daemon, killed or failing anywhere, comes back to the truth and leaves nothing behind.
//
// It owns the worlds in which that is tried (world_test.go): namespaces, cgroups and directories of their own, with a
// registry, the product's programs, and the two that carry out a plan (integration/killmain). It judges by what calls
// answer and by a snapshot of the kernel's and the file system's objects, never by the daemon's own memory.
//
// The environment's RUNTIMED_TEST_LONG=1 tries each point at each of its occurrences, and more random moments;
// RUNTIMED_TEST_ONLY=creator tries only the moments whose description has that word.
package kill
