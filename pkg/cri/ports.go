package cri

import (
	"context"
	"net/netip"
	"time"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Runtime is what the door needs of the sandboxes. Ids may be unique prefixes; an ambiguous one is
// errdefs.ErrInvalidArgument, an unknown one errdefs.ErrNotFound. Filters with an unknown id select nothing.
type Runtime interface {
	Stats

	RunSandbox(ctx context.Context, r spec.SandboxRequest) (id string, err error)
	StopSandbox(ctx context.Context, id string) error
	RemoveSandbox(ctx context.Context, id string) error
	Sandbox(ctx context.Context, id string) (spec.SandboxView, error)
	Sandboxes(ctx context.Context, f spec.SandboxFilter) ([]spec.SandboxView, error)

	CreateContainer(ctx context.Context, sandboxID string, r spec.ContainerRequest) (id string, err error)
	StartContainer(ctx context.Context, id string) error
	// StopContainer returns when the end can be seen. A timeout of 0 kills at once.
	StopContainer(ctx context.Context, id string, timeout time.Duration) error
	RemoveContainer(ctx context.Context, id string) error
	Container(ctx context.Context, id string) (spec.ContainerView, error)
	Containers(ctx context.Context, f spec.ContainerFilter) ([]spec.ContainerView, error)
	ReopenLog(ctx context.Context, id string) error
	ExecSync(ctx context.Context, r spec.ExecRequest) (spec.ExecResult, error)

	// UsePodCIDRs tells the subnets that the cluster gave this node.
	UsePodCIDRs(ctx context.Context, cidrs []netip.Prefix) error

	// UpdateContainer changes limits: all that are asked for or none; zero fields stay.
	UpdateContainer(ctx context.Context, id string, asked spec.Resources) error
	// UpdateSandbox keeps the pod's limits for who looks; nil stays.
	UpdateSandbox(ctx context.Context, id string, overhead, resources *spec.Resources) error

	// Events calls each with every event, in order, until ctx ends or each returns an error. subscribed is called once,
	// before the first: what changes after it is not missed. A reader that is too slow is errdefs.ErrResourceExhausted.
	Events(ctx context.Context, subscribed func(), each func(spec.Event) error) error

	// Status waits for nothing: the kubelet asks every 5 s.
	Status(ctx context.Context, verbose bool) spec.RuntimeStatus
}

// Images is what the door needs of the image store. A reference is an id, a prefix of one, a tag or a digest.
type Images interface {
	// Pull returns the image's id.
	Pull(ctx context.Context, r spec.PullRequest) (id string, err error)
	// List returns the images that ref names; "" names all.
	List(ctx context.Context, ref string) ([]spec.Image, error)
	// Get is errdefs.ErrNotFound where there is no such image.
	Get(ctx context.Context, ref string) (spec.Image, error)
	Remove(ctx context.Context, ref string) error
	// FsInfo answers before there is any image.
	FsInfo(ctx context.Context) (spec.FsInfo, error)
}
