package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
)

// errStage is what Fatalf panics with.
var errStage = errors.New("stopped")

// stage is what a test is to daemontest.
type stage struct {
	failed   bool
	cleanups []func()
}

func (s *stage) Helper() {}

// Failed is asked by what would print the end of the daemon's log, which is kept as a whole.
func (s *stage) Failed() bool { return false }

func (s *stage) Logf(format string, args ...any) { fmt.Printf(format+"\n", args...) }

func (s *stage) Errorf(format string, args ...any) {
	s.failed = true
	fmt.Fprintf(os.Stderr, "conformance: "+format+"\n", args...)
}

func (s *stage) Fatalf(format string, args ...any) {
	s.Errorf(format, args...)
	panic(errStage)
}

func (s *stage) Cleanup(f func()) { s.cleanups = append(s.cleanups, f) }

// close runs what Cleanup was given, the last first.
func (s *stage) close() {
	for _, f := range slices.Backward(s.cleanups) {
		f()
	}
	s.cleanups = nil
}
