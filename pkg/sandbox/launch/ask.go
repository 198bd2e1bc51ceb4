package launch

import (
	"context"

	"github.com/runtimed/runtimed/pkg/sandbox/shim"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Ready tells whether the monitor answers on its socket.
func (s *Launcher) Ready(ctx context.Context, l spec.Layout, containerID string) error {
	return shim.Client{Socket: l.ShimSocket(containerID)}.Ping(ctx)
}

// ReopenLog makes the monitor write to a new file at the log's path.
func (s *Launcher) ReopenLog(ctx context.Context, l spec.Layout, containerID string) error {
	return shim.Client{Socket: l.ShimSocket(containerID)}.ReopenLog(ctx)
}
