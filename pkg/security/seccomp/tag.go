//go:build !seccomp

package seccomp

// libcontainer leaves every filter out of a build without this tag, silently: such a build must not exist.
var _ = build_with_go_build_tags_seccomp
