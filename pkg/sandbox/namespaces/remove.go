package namespaces

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Remove takes the sandbox's pins away. It is done where none are, may run any number of times and after any half of a
// Create, and waits for nobody: a pin that is in use is detached. The namespaces end with their last process.
func (m *Manager) Remove(ctx context.Context, sandboxID string) error {
	if err := checkID(sandboxID); err != nil {
		return err
	}
	return m.flow(nil, spec.NamespaceRequest{SandboxID: sandboxID}).Teardown(ctx)
}

func (m *Manager) removeDir(sandboxID string) error {
	if err := os.Remove(m.dir(sandboxID)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return spec.Errorf(errdefs.ErrInternal, "directory of pins: %w", err)
	}
	return nil
}

func (m *Manager) unpinAll(sandboxID string) error {
	for _, kind := range slices.Backward(pinned) {
		if err := m.unpin(sandboxID, kind); err != nil {
			return err
		}
	}
	return nil
}

func (m *Manager) unpin(sandboxID, kind string) error {
	path := m.pin(sandboxID, kind)
	err := unmount(path)
	if err == nil {
		if err = os.Remove(path); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	if err != nil {
		return spec.Errorf(errdefs.ErrInternal, "unpin the %s namespace at %s: %w", kind, path, err)
	}
	return nil
}
