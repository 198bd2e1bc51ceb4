// Package tag stops a build in which libcontainer would leave out every seccomp filter, silently: one without the tag
// seccomp, or without cgo. Whatever makes or applies filters imports it for that alone; it holds nothing, and owns
// nothing.
package tag
