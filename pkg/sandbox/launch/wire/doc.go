// Package wire is what the launcher and runtimed-shim say to each other: which descriptor is which, what a creator
// reports on its status pipe, and what an exec session is asked and answers.
//
// It owns these forms and their limits. It opens nothing and starts nothing. Both sides are installed together, but an
// exec stage may be a newer program than the daemon that started it, so what is asked carries a version.
//
// A status line lives from the creator's (or, later, the monitor's) write to the launcher's read at Start; an exec
// request and its outcome live as long as one exec stage.
package wire
