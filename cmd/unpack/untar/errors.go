package untar

import (
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// badf is an archive that no one could unpack.
func badf(format string, args ...any) error {
	return spec.Invalidf("layer: "+format, args...)
}

func tooMuchf(format string, args ...any) error {
	return spec.Errorf(errdefs.ErrResourceExhausted, "layer: "+format, args...)
}

// kernel gives a system call's error the kind that says whose fault it is: the archive's, the node's space, or the node.
func kernel(op, path string, err error) error {
	if err == nil {
		return nil
	}
	var kind error
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EFBIG), errors.Is(err, unix.EMLINK):
		kind = errdefs.ErrResourceExhausted
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENAMETOOLONG), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP),
		errors.Is(err, unix.EISDIR), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EILSEQ), errors.Is(err, unix.E2BIG),
		errors.Is(err, unix.ERANGE), errors.Is(err, unix.EXDEV):
		kind = errdefs.ErrInvalidArgument
	default:
		kind = errdefs.ErrUnavailable
	}
	return spec.Errorf(kind, "layer: %s %s: %w", op, short(path), err)
}

// short quotes a path of the archive, of any length, for an error.
func short(path string) string {
	const most = 200
	if len(path) > most {
		return fmt.Sprintf("%q…", path[:most])
	}
	return fmt.Sprintf("%q", path)
}
