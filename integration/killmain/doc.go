// Package killmain holds the product's programs with a weak spot: the daemon and the shim, built from the same packages
// as the product's own, with an observer of their steps that records, fails or kills where a plan says so.
//
// It owns the plan's form (package plan) and two mains over it. It is never part of the product, whose programs have no
// such switch, and it decides nothing: a test writes the plan and judges what came of it.
package killmain
