// Package sessions breaks sessions with containers off, a great many of them, at any moment, and looks at what a whole
// daemon holds afterwards: goroutines, descriptors, processes.
//
// It owns nothing but its counting. RUNTIMED_TEST_SESSIONS is how many sessions of each kind there are.
package sessions
