// Command bench measures runtimed beside its peers: runc's start, conmon's log path, tar's unpacking. Everything is
// paired and interleaved in one run; what it prints are medians, their spread (p10–p90) and ratios, and whether each is
// within its gate. Times depend on the machine, so it ends with 0 also below a gate; only what does not work is an error.
//
// It owns the daemon, registry, pods and files that it makes, all below /mnt in namespaces that bench.sh makes for it,
// and a tree of cgroups. It is never part of the product, and changes nothing of it.
//
// A bench is made once; each section makes its pods, measures, prints, and takes its pods down. docs/benchmarks.md says
// what is measured and how.
package main
