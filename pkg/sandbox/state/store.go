package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Store reads and writes the records below a layout.
type Store struct{ Layout spec.Layout }

// SandboxRecord is all that is recorded of a sandbox.
type SandboxRecord struct {
	Spec       spec.Sandbox
	Status     *spec.SandboxStatus // nil: it never became ready
	Network    *spec.NetworkResult
	Containers []ContainerRecord
}

// ContainerRecord is all that is recorded of a container.
type ContainerRecord struct {
	Spec  spec.Container
	Facts spec.Facts
}

// Bad is a record that cannot be believed. ContainerID is "" where the sandbox's own is the bad one.
type Bad struct {
	SandboxID   string
	ContainerID string
	Err         error
}

var idForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Open makes the directories, 0700, and empties the trash.
func Open(l spec.Layout) (Store, error) {
	s := Store{Layout: l}
	for _, d := range []string{l.Root, l.Sandboxes(), s.trash()} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return s, err
		}
		if err := os.Chmod(d, 0o700); err != nil {
			return s, err
		}
	}
	return s, s.emptyTrash()
}

func (s Store) trash() string { return filepath.Join(s.Layout.Root, "trash") }

func (s Store) emptyTrash() error {
	left, err := os.ReadDir(s.trash())
	if err != nil {
		return err
	}
	for _, e := range left {
		if err := os.RemoveAll(filepath.Join(s.trash(), e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// AddSandbox makes the record of a sandbox.
func (s Store) AddSandbox(r spec.Sandbox) error {
	return s.add(r.ID, s.Layout.Sandbox(r.ID), r, "containers")
}

// AddContainer makes the record of a container. Its directories for overlayfs and libcontainer are the creator's.
func (s Store) AddContainer(r spec.Container) error {
	return s.add(r.ID, s.Layout.Container(r.SandboxID, r.ID), r)
}

// add makes the directory in the trash and renames it: a record is there whole, or not at all.
func (s Store) add(id, dir string, v any, subdirs ...string) error {
	tmp := filepath.Join(s.trash(), id)
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return diskError(err)
	}
	err := WriteOnce(tmp, spec.SpecFile, v)
	for _, d := range subdirs {
		if err == nil {
			err = os.Mkdir(filepath.Join(tmp, d), 0o700)
		}
	}
	if err == nil {
		err = unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, dir, unix.RENAME_NOREPLACE)
	}
	if err != nil {
		os.RemoveAll(tmp)
		return diskError(err)
	}
	return nil
}

// RemoveSandbox takes a sandbox's record away: it is gone, whole, when this returns.
func (s Store) RemoveSandbox(sid string) error { return s.remove(s.Layout.Sandbox(sid), sid) }

// RemoveContainer takes a container's record away, with its writable layer.
func (s Store) RemoveContainer(sid, cid string) error {
	return s.remove(s.Layout.Container(sid, cid), cid)
}

// remove moves the directory into the trash first: a daemon killed while it deletes must not come back to half a record.
func (s Store) remove(dir, id string) error {
	bin := filepath.Join(s.trash(), id)
	if err := os.RemoveAll(bin); err != nil {
		return err
	}
	if err := os.Rename(dir, bin); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(bin)
}

// SetAside moves the record of a bad sandbox or container out of the way and returns where it is. Its kernel objects
// are the caller's to remove.
func (s Store) SetAside(b Bad) (string, error) {
	from, id := s.Layout.Sandbox(b.SandboxID), b.SandboxID
	if b.ContainerID != "" {
		from, id = s.Layout.Container(b.SandboxID, b.ContainerID), b.ContainerID
	}
	if err := os.MkdirAll(s.Layout.Quarantine(), 0o700); err != nil {
		return "", err
	}
	to := filepath.Join(s.Layout.Quarantine(), id)
	for n := 1; ; n++ {
		err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
		if !errors.Is(err, unix.EEXIST) {
			return to, err
		}
		to = filepath.Join(s.Layout.Quarantine(), fmt.Sprintf("%s.%d", id, n))
	}
}

// Load reads all records. Those that cannot be believed come back as bad, and never stop the others.
func (s Store) Load() ([]SandboxRecord, []Bad, error) {
	names, err := os.ReadDir(s.Layout.Sandboxes())
	if err != nil {
		return nil, nil, err
	}
	var good []SandboxRecord
	var bad []Bad
	for _, n := range names {
		r, worse, err := s.loadSandbox(n.Name())
		bad = append(bad, worse...)
		if err != nil {
			bad = append(bad, Bad{SandboxID: n.Name(), Err: err})
			continue
		}
		good = append(good, r)
	}
	return good, bad, nil
}

func (s Store) loadSandbox(sid string) (SandboxRecord, []Bad, error) {
	dir := s.Layout.Sandbox(sid)
	var r SandboxRecord
	if !idForm.MatchString(sid) {
		return r, nil, fmt.Errorf("%s: %w: %q is not an id", dir, ErrTorn, sid)
	}
	if err := Read(dir, spec.SpecFile, &r.Spec); err != nil {
		return r, nil, err
	}
	if r.Spec.ID != sid {
		return r, nil, fmt.Errorf("%s: %w: it says that its id is %q", dir, ErrTorn, r.Spec.ID)
	}
	var err error
	if r.Status, err = optional[spec.SandboxStatus](dir, spec.StatusFile); err != nil {
		return r, nil, err
	}
	if r.Network, err = optional[spec.NetworkResult](dir, spec.NetworkFile); err != nil {
		return r, nil, err
	}
	names, err := os.ReadDir(filepath.Join(dir, "containers"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return r, nil, err
	}
	var bad []Bad
	for _, n := range names {
		c, err := s.LoadContainer(sid, n.Name())
		if err != nil {
			bad = append(bad, Bad{SandboxID: sid, ContainerID: n.Name(), Err: err})
			continue
		}
		r.Containers = append(r.Containers, c)
	}
	return r, bad, nil
}

// LoadContainer reads one container's record.
func (s Store) LoadContainer(sid, cid string) (ContainerRecord, error) {
	dir := s.Layout.Container(sid, cid)
	var r ContainerRecord
	if !idForm.MatchString(cid) {
		return r, fmt.Errorf("%s: %w: %q is not an id", dir, ErrTorn, cid)
	}
	if err := Read(dir, spec.SpecFile, &r.Spec); err != nil {
		return r, err
	}
	if r.Spec.ID != cid || r.Spec.SandboxID != sid {
		return r, fmt.Errorf("%s: %w: it says that it is container %q of %q", dir, ErrTorn, r.Spec.ID, r.Spec.SandboxID)
	}
	status, err := optional[spec.ContainerStatus](dir, spec.StatusFile)
	if err != nil {
		return r, err
	}
	if status != nil {
		r.Facts.Status = *status
	}
	r.Facts.Started, r.Facts.Exit, err = s.ShimFacts(sid, cid)
	return r, err
}

// ShimFacts reads what the shim has said so far.
func (s Store) ShimFacts(sid, cid string) (*spec.Started, *spec.Exit, error) {
	dir := s.Layout.Container(sid, cid)
	exit, err := optional[spec.Exit](dir, spec.ExitFile)
	if err != nil {
		return nil, nil, err
	}
	started, err := optional[spec.Started](dir, spec.StartedFile)
	return started, exit, err
}

func optional[T any](dir, name string) (*T, error) {
	v := new(T)
	err := Read(dir, name, v)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return v, nil
}

// diskError gives a full disk its kind: the caller can retry when there is room.
func diskError(err error) error {
	if errdefs.IsResourceExhausted(err) {
		return err // said already
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return spec.Errorf(errdefs.ErrResourceExhausted, "no room for the record: %w", err)
	}
	return err
}
