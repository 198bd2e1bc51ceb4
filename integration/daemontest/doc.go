// Package daemontest runs whole daemons for tests: the real programs, from the socket to the kernel, beside a registry on
// loopback, in mount, network and PID namespaces that end with the test binary.
//
// It owns the namespaces (Main), the building of the programs (Bin), the life of a Daemon (Start, Kill9, Restart, Stop),
// requests and images for tests, and a snapshot of the machine with its comparison (Snapshot, Diff). It never touches the
// machine's own network, nor a cgroup that it did not make. It is never part of the product.
//
// A package that uses it has a TestMain of one line: os.Exit(daemontest.Main(m)).
package daemontest
