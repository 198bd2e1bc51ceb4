// Package state keeps the records of sandboxes and containers: the directories are the state.
//
// It owns the files below Layout.Sandboxes that the daemon writes, how they are written (one writer a file; facts once,
// what changes by rename) and what is done with those that cannot be believed (they are set aside and named). It never
// decides what a record means: that is Observe's, for one container, and the Runtime's.
//
// A record lives from its spec.json, written before any kernel object is made, to the rename of its directory into the
// trash, after all of them are gone.
package state
