package content

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Blobs keeps documents as files named by their digest, below Dir (such as images/blobs/sha256). Blobs appear whole or
// not at all; Put syncs nothing: its caller syncs the file system before it records that the blob is there.
type Blobs struct{ Dir string }

func (b Blobs) path(d Digest) string { return filepath.Join(b.Dir, d.Hex()) }

// Put keeps data under its digest d, which must be FromBytes(data).
func (b Blobs) Put(d Digest, data []byte) error {
	if FromBytes(data) != d {
		return spec.Errorf(errdefs.ErrDataLoss, "blob %s has other bytes", d)
	}
	return WriteFile(b.path(d), data, false)
}

// Get returns the blob after it has hashed it again. The error matches fs.ErrNotExist where there is none, and
// errdefs.ErrDataLoss where the file is not what its name says.
func (b Blobs) Get(d Digest) ([]byte, error) {
	data, err := ReadFile(b.path(d), MaxDocument)
	if err != nil {
		return nil, err
	}
	if FromBytes(data) != d {
		return nil, spec.Errorf(errdefs.ErrDataLoss, "blob %s was changed on disk", d)
	}
	return data, nil
}

// Remove removes a blob; one that is not there is removed.
func (b Blobs) Remove(d Digest) error {
	if err := os.Remove(b.path(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Use is the room that the blob takes on its file system, in bytes, or 0 where there is none.
func (b Blobs) Use(d Digest) uint64 { return Use(b.path(d)) }

// Use is the room that a file or a directory itself takes, as du(1) counts, or 0 where there is none.
func Use(path string) uint64 {
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil {
		return 0
	}
	return uint64(st.Blocks) * 512
}

// WriteFile writes data to path with mode 0600, by rename. With sync, file and directory are synced: when it returns
// nil, the file outlives a power cut.
func WriteFile(path string, data []byte, sync bool) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return DiskError(err)
	}
	defer func() {
		if err != nil {
			os.Remove(tmp.Name())
		}
	}()
	_, err = tmp.Write(data)
	if err == nil && sync {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err == nil && sync {
		err = SyncDir(filepath.Dir(path))
	}
	return DiskError(err)
}

// SyncDir makes the names in dir durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// ReadFile reads a regular file of at most limit bytes; it follows no symbolic link and waits for no FIFO.
func ReadFile(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return data, err
}

// DiskError gives a full disk its kind; other errors it returns as they are.
func DiskError(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return spec.Errorf(errdefs.ErrResourceExhausted, "no space is left for images: %w", err)
	}
	return err
}
