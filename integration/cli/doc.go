// Package cli holds the tests that use the command line as a person does: the real program, against a real daemon.
//
// It owns the example session of the README and the promises of `runtimed run`: output, signals, exit codes, and that
// nothing is left.
package cli
