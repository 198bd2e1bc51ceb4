package cdi

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Limits on what is read for one container, and on a hook.
const (
	maxFiles       = 1024
	maxFile        = 16 << 20 // bytes
	maxHookTimeout = 120      // s
	hookTimeout    = 30       // s, of a hook whose file names none
)

// checkDir tells whether all files of a directory are root's alone. One that is not there holds none.
func checkDir(dir string) error {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && !info.IsDir() {
		err = errors.New("it is no directory")
	}
	if err == nil {
		err = ours(info)
	}
	if err != nil {
		return spec.Preconditionf("CDI_devices: directory %q: %w", dir, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return spec.Preconditionf("CDI_devices: directory %q: %w", dir, err)
	}
	files := 0
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); ext != ".json" && ext != ".yaml" || e.IsDir() {
			continue
		}
		if files++; files > maxFiles {
			return spec.Preconditionf("CDI_devices: directory %q holds more than %d files", dir, maxFiles)
		}
		if err := checkFile(filepath.Join(dir, e.Name())); err != nil {
			return spec.Preconditionf("CDI_devices: file %q: %w", filepath.Join(dir, e.Name()), err)
		}
	}
	return nil
}

func checkFile(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // taken away meanwhile
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return errors.New("it is no regular file: a link could lead to one that others write")
	case info.Size() > maxFile:
		return errors.New("it is larger than 16 MiB")
	}
	return ours(info)
}

// ours: whoever can write such a file can run programs on the node.
func ours(info fs.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok:
		return errors.New("its owner cannot be seen")
	case st.Uid != 0 && st.Uid != uint32(os.Geteuid()):
		return fmt.Errorf("it belongs to user %d: it must be root's", st.Uid)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("others than its owner can write it (mode %04o): chmod go-w it", info.Mode().Perm())
	}
	return nil
}

// hookKinds are the hooks that the creator runs, with their place in an OCI specification. What would have to run later
// has nobody who runs it: the shim is tiny then, and the daemon may be down.
func hookKinds(h *specs.Hooks) (served [][]specs.Hook, not []specs.Hook) {
	//lint:ignore SA1019 the files still say prestart
	served = [][]specs.Hook{h.Prestart, h.CreateRuntime, h.CreateContainer, h.StartContainer}
	return served, slices.Concat(h.Poststart, h.Poststop)
}

// check refuses what is not served, and gives each hook an end.
func (e Edits) check() error {
	if e.Hooks == nil {
		return nil
	}
	served, not := hookKinds(e.Hooks)
	if len(not) > 0 {
		return spec.Errorf(errdefs.ErrNotImplemented, "CDI_devices: hook %.128q is a poststart or poststop hook, which are not served", not[0].Path)
	}
	for _, list := range served {
		for i := range list {
			h := &list[i]
			if !filepath.IsAbs(h.Path) || strings.IndexByte(h.Path, 0) >= 0 {
				return spec.Preconditionf("CDI_devices: hook %.128q is not an absolute path", h.Path)
			}
			timeout := hookTimeout
			if h.Timeout != nil && *h.Timeout > 0 {
				timeout = min(*h.Timeout, maxHookTimeout)
			}
			h.Timeout = &timeout
		}
	}
	return nil
}
