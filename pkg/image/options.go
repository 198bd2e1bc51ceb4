package image

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/runtimed/runtimed/pkg/image/layer"
	"github.com/runtimed/runtimed/pkg/image/registry"
	"github.com/runtimed/runtimed/pkg/image/trust"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

// Unpacker unpacks one layer in a process without privileges. Its errors have the kinds errdefs.ErrInvalidArgument (a bad
// archive), ErrResourceExhausted (a limit) and ErrAborted or ErrUnavailable (the process died).
type Unpacker interface {
	Unpack(ctx context.Context, r layer.Request) (layer.Result, error)
}

// Options of a Store. Registry, Unpacker, OpenFile and FindFile are needed.
type Options struct {
	Layout   spec.Layout
	Registry *registry.Client
	Policy   trust.Policy
	Unpacker Unpacker
	// Limits of each layer; zero fields are the worker's own.
	Limits layer.Limits
	// OpenFile opens a regular file below layer directories, lowest first, as Store.Open says.
	OpenFile func(dirs []string, path string) (io.ReadCloser, error)
	// FindFile tells what is at a path of layer directories, lowest first, as Store.Find says.
	FindFile func(dirs []string, path string) (dir bool, err error)
	// InUse returns what the container records hold. The store protects their layers, by chain id, even where the image's
	// own record is lost. It is called without a lock of the store's, from any goroutine; nil is none.
	InUse func() []spec.ImageUse
	// Observe sees the steps of the flow "pull"; nil sees nothing.
	Observe step.Observer
	Log     *slog.Logger     // default slog.Default()
	Now     func() time.Time // default time.Now
	// Parallel is how many layers of a pull are fetched at once. Default 4.
	Parallel int
}

func (o *Options) check() error {
	if o.Layout.Root == "" || o.Registry == nil || o.Unpacker == nil || o.OpenFile == nil || o.FindFile == nil {
		return spec.Invalidf("the image store needs a root directory, a registry client, an unpacker and ways to open and find files")
	}
	if o.InUse == nil {
		o.InUse = func() []spec.ImageUse { return nil }
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Parallel <= 0 {
		o.Parallel = 4
	}
	return nil
}
