package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

// Names of the files in the sandbox's record directory.
const (
	ResolvConf = "resolv.conf"
	Hosts      = "hosts"
	Hostname   = "hostname"
)

const (
	fileMode = 0o644
	// ShmSize is the size of a pod's /dev/shm, in bytes, as other runtimes have it.
	ShmSize = 64 << 20
	// maxNodeFile bounds what is read of the node's own files, in bytes.
	maxNodeFile = 1 << 20
)

// Node says where the node's own files are.
type Node struct{ ResolvConf, UpstreamResolvConf, Hosts string }

// thisNode: the second is systemd-resolved(8)'s list of the servers behind its stub.
var thisNode = Node{ResolvConf: "/etc/resolv.conf", UpstreamResolvConf: "/run/systemd/resolve/resolv.conf", Hosts: "/etc/hosts"}

// Manager serves the Files port. It keeps no state; calls for different sandboxes may run at once.
type Manager struct {
	layout  spec.Layout
	node    Node
	observe step.Observer
}

// New returns a manager for the layout, with this node's own files.
func New(l spec.Layout) *Manager { return &Manager{layout: l, node: thisNode} }

// Observed returns a manager whose steps observe sees.
func (m Manager) Observed(observe step.Observer) *Manager {
	m.observe = observe
	return &m
}

// Create makes the files in the sandbox's record directory, which must be there, and mounts its /dev/shm. What an earlier
// attempt left is replaced.
func (m *Manager) Create(ctx context.Context, r spec.FilesRequest) error {
	if err := Check(r); err != nil {
		return err
	}
	return m.flow(r).Run(ctx)
}

// Remove unmounts the sandbox's /dev/shm and deletes its files. It is done where there are none.
func (m *Manager) Remove(ctx context.Context, sandboxID string) error {
	r := spec.FilesRequest{SandboxID: sandboxID}
	if err := Check(r); err != nil {
		return err
	}
	return m.flow(r).Teardown(ctx)
}

// flow is the one table of Create, which runs it, and Remove, which tears it down: only the id matters there.
func (m *Manager) flow(r spec.FilesRequest) step.Flow {
	file := func(name string, text func() (string, error)) step.Step {
		return step.Step{Name: name, Undo: func(context.Context) error { return m.remove(r.SandboxID, name) },
			Do: func(context.Context) error {
				s, err := text()
				if err == nil {
					err = m.write(r, name, s)
				}
				if err != nil {
					return spec.Errorf(errdefs.ErrInternal, "%s of the pod: %w", name, err)
				}
				return nil
			}}
	}
	shm := step.Step{Name: "shm", Undo: func(context.Context) error { return m.unmountShm(r.SandboxID) }}
	if !r.HostIPC {
		shm.Do = func(context.Context) error { return m.mountShm(r) }
	}
	return step.Flow{Name: "files", ID: r.SandboxID, Observe: m.observe, Steps: []step.Step{
		file(ResolvConf, func() (string, error) { return m.resolvConf(r) }),
		file(Hosts, func() (string, error) { return m.hosts(r) }),
		file(Hostname, func() (string, error) { return hostname(r) }),
		shm,
	}}
}

func (m *Manager) resolvConf(r spec.FilesRequest) (string, error) {
	stub, err := read(m.node.ResolvConf)
	if err != nil {
		return "", err
	}
	upstream, err := read(m.node.UpstreamResolvConf)
	if err != nil {
		return "", err
	}
	return resolvConf(r, nodeDNS{Stub: stub, Upstream: upstream}), nil
}

func (m *Manager) hosts(r spec.FilesRequest) (string, error) {
	if !r.HostNetwork {
		return hosts(r), nil
	}
	text, err := read(m.node.Hosts)
	if err == nil && text == "" {
		text = localhost
	}
	return text, err
}

func hostname(r spec.FilesRequest) (string, error) {
	if r.Hostname != "" {
		return r.Hostname + "\n", nil
	}
	name, err := os.Hostname()
	return name + "\n", err
}

// read is the text of a file of the node; "" where there is none.
func read(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxNodeFile+1))
	if err == nil && len(b) > maxNodeFile {
		err = fmt.Errorf("the node's %s is longer than %d bytes", path, maxNodeFile)
	}
	return string(b), err
}

// record opens the sandbox's record directory; its last component is no link.
func (m *Manager) record(sandboxID string) (int, error) {
	dir := m.layout.Sandbox(sandboxID)
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	return fd, nil
}

// write replaces the file: a new one, with its owner and mode, is put in the place of the old one, so that whatever is
// there, a link too, is neither followed nor written to.
func (m *Manager) write(r spec.FilesRequest, name, text string) error {
	dir, err := m.record(r.SandboxID)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	temporary := "." + name
	if err := unlink(dir, temporary); err != nil {
		return err
	}
	fd, err := unix.Openat(dir, temporary, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		return err
	}
	if err := errors.Join(f.Chown(int(r.RootUID), int(r.RootGID)), f.Chmod(fileMode)); err != nil {
		return err
	}
	return unix.Renameat(dir, temporary, dir, name)
}

func (m *Manager) remove(sandboxID, name string) error {
	dir, err := m.record(sandboxID)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		defer unix.Close(dir)
		err = errors.Join(unlink(dir, "."+name), unlink(dir, name))
	}
	if err != nil {
		return spec.Errorf(errdefs.ErrInternal, "remove the pod's %s: %w", name, err)
	}
	return nil
}

func unlink(dir int, name string) error {
	if err := unix.Unlinkat(dir, name, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// mountShm mounts an empty tmpfs for the pod's root.
func (m *Manager) mountShm(r spec.FilesRequest) error {
	if err := m.unmountShm(r.SandboxID); err != nil {
		return err
	}
	path := m.layout.Shm(r.SandboxID)
	err := os.Mkdir(path, 0o700)
	if err == nil {
		options := fmt.Sprintf("mode=1777,size=%d,uid=%d,gid=%d", ShmSize, r.RootUID, r.RootGID)
		err = unix.Mount("shm", path, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, options)
	}
	if err != nil {
		return spec.Errorf(errdefs.ErrInternal, "/dev/shm of the pod at %s: %w", path, err)
	}
	return nil
}

// unmountShm detaches lazily: a container that is still dying does not hold it up.
func (m *Manager) unmountShm(sandboxID string) error {
	path := m.layout.Shm(sandboxID)
	for range 64 {
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, fs.ErrNotExist) {
			break // not mounted, any more
		}
		if err != nil {
			return spec.Errorf(errdefs.ErrInternal, "unmount the pod's /dev/shm: %w", err)
		}
	}
	if err := unix.Rmdir(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return spec.Errorf(errdefs.ErrInternal, "remove the pod's /dev/shm at %s: %w", path, err)
	}
	return nil
}
