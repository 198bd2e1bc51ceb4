// Package conf reads the directory of network configurations.
//
// It owns the choice (the first file by name is the network), the limits on what is read, and one normal form: a list
// with every plugin inside, so that what was used for a pod can be used again when the files have changed. It runs
// nothing. A file that cannot be used is an error that names directory and file; the next file is never taken in its
// place, because a pod in another network than its operator's is worse than none.
//
// A Network is made by Load or Parse and is then plain data that nobody changes.
package conf
