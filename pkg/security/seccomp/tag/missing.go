//go:build !seccomp || !cgo

package tag

// What the compiler says of this line is the message: build with -tags seccomp, and with cgo.
var _ = build_with_tags_seccomp_and_cgo
