// Package work is the unpack worker's main: the first image of the process reads the job and jails itself, the second
// unpacks. It owns what passes between the two (arguments: there is nothing secret in a job) and the answer. It never reads
// the blob before the jail is closed.
package work
