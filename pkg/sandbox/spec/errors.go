package spec

import (
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
)

// Errorf returns an error of the given kind (one of containerd/errdefs' Err… values) whose text is exactly the
// formatted message: the kind selects the gRPC code in pkg/cri and is not repeated in the text. %w may wrap one cause;
// errors.Is finds both the kind and the cause. The kind given here wins over a kind found in the cause.
func Errorf(kind error, format string, args ...any) error {
	return &kindError{kind: kind, err: fmt.Errorf(format, args...)}
}

// Invalidf is Errorf with errdefs.ErrInvalidArgument: what the caller sent can never be served.
func Invalidf(format string, args ...any) error {
	return Errorf(errdefs.ErrInvalidArgument, format, args...)
}

// NotFoundf is Errorf with errdefs.ErrNotFound.
func NotFoundf(format string, args ...any) error {
	return Errorf(errdefs.ErrNotFound, format, args...)
}

// Preconditionf is Errorf with errdefs.ErrFailedPrecondition: the object is in a state that forbids the operation.
func Preconditionf(format string, args ...any) error {
	return Errorf(errdefs.ErrFailedPrecondition, format, args...)
}

// KindOf returns the outermost kind that Errorf gave err, or nil.
func KindOf(err error) error {
	var k *kindError
	if errors.As(err, &k) {
		return k.kind
	}
	return nil
}

// StartError says why a container could not be started.
type StartError struct {
	// Message is for a person, from the creator.
	Message string
}

func (e *StartError) Error() string { return e.Message }

type kindError struct {
	kind error
	err  error
}

func (e *kindError) Error() string   { return e.err.Error() }
func (e *kindError) Unwrap() []error { return []error{e.kind, e.err} }
