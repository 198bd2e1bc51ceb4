package cri

import (
	"context"
	"errors"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// maxMessage bounds an error's text: it travels in a header.
const maxMessage = 16 << 10

// kinds is the one mapping from kinds to codes.
var kinds = []struct {
	kind error
	code codes.Code
}{
	{errdefs.ErrInvalidArgument, codes.InvalidArgument},
	{errdefs.ErrNotFound, codes.NotFound},
	{errdefs.ErrAlreadyExists, codes.AlreadyExists},
	{errdefs.ErrPermissionDenied, codes.PermissionDenied},
	{errdefs.ErrResourceExhausted, codes.ResourceExhausted},
	{errdefs.ErrFailedPrecondition, codes.FailedPrecondition},
	{errdefs.ErrConflict, codes.FailedPrecondition},
	{errdefs.ErrNotModified, codes.FailedPrecondition},
	{errdefs.ErrAborted, codes.Aborted},
	{errdefs.ErrOutOfRange, codes.OutOfRange},
	{errdefs.ErrNotImplemented, codes.Unimplemented},
	{errdefs.ErrInternal, codes.Internal},
	{errdefs.ErrUnavailable, codes.Unavailable},
	{errdefs.ErrDataLoss, codes.DataLoss},
	{errdefs.ErrUnauthenticated, codes.Unauthenticated},
	{errdefs.ErrUnknown, codes.Unknown},
}

// code finds an error's code. The caller's own deadline comes before any kind: what broke off because of it has no
// other reason. Then the kind that was given last, then a kind of a library, then the context errors. What has none is
// Unknown, which the CRI's callers try again; Internal is for bugs.
func code(ctx context.Context, err error) codes.Code {
	if end := ctx.Err(); end != nil && errors.Is(err, end) {
		return contextCode(end)
	}
	if kind := spec.KindOf(err); kind != nil {
		err = kind
	}
	for _, k := range kinds {
		if errors.Is(err, k.kind) {
			return k.code
		}
	}
	return contextCode(err)
}

func contextCode(err error) codes.Code {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		return codes.Canceled
	}
	return codes.Unknown
}

// toStatus makes the error that a caller sees. What is a status already, such as a codec's, stays.
func toStatus(ctx context.Context, err error, hide redactor) error {
	if err == nil {
		return nil
	}
	if _, ok := err.(interface{ GRPCStatus() *status.Status }); ok {
		return err
	}
	text := hide.in(err.Error())
	if len(text) > maxMessage {
		text = text[:maxMessage] + "…"
	}
	return status.Error(code(ctx, err), text)
}

// missing tells whether err says that the object is not there.
func missing(err error) bool { return err != nil && code(context.Background(), err) == codes.NotFound }
