// Package integration holds the tests that look at the whole: the import lattice, and the programs as they are run.
//
// It owns what is true of the tree rather than of one room. It is never part of the product, and the product never
// imports it outside of tests.
package integration
