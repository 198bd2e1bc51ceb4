// Package report reads what critest says of a run, judges it, and writes the record that is kept below docs/conformance.
// It runs nothing.
package report
