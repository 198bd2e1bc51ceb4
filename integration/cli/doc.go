// Package cli holds the tests that use the command line as a person does: the real program, against a real daemon.
//
// It owns the promises of `runtimed run` and its companions: output, signals, exit codes, and that nothing is left. (The
// README's own session is replayed by the demonstration.)
package cli
