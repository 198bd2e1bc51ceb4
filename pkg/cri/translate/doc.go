// Package translate turns CRI messages into the plain data of pkg/sandbox/spec and back. It is where foreign input is
// parsed: what comes out has the right form, is bounded in size and names no control character.
//
// It owns the limits, the meaning of absent messages, and the list of fields that are not heeded (Ignored). Every other
// field is honoured or refused with an error that names it by its path in the request, such as
// config.linux.security_context.run_as_user.value. It is pure: it never touches a file or the network, knows no object that exists,
// and decides nothing about permissions, which is pkg/security's part.
//
// It has no objects: each function takes a message, nil included, and returns plain data or an error of a kind of
// containerd/errdefs. A field that is not served yet is ErrNotImplemented; all else that is wrong is ErrInvalidArgument.
package translate
