//go:build !seccomp

package creator

// Without this tag libcontainer would be built without seccomp, and every container would run without its filter or not
// at all. So such a build does not compile: use the Makefile, or GOFLAGS=-tags=seccomp,netgo,osusergo.
var _ = theBuildTagSeccompIsMissing
