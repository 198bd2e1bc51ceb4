// Package request turns the flags of `runtimed run` into requests of the CRI.
//
// It owns the grammar of the flags: ports, volumes, variables, sizes, users. It is pure: it looks at no file but for
// variables of the environment, which its caller gives it, and asks no daemon. Whatever the daemon would refuse for its
// form is refused here in the flag's words where that helps a person, and by the daemon otherwise.
package request
