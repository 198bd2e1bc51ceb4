package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// maxFile bounds a record file in bytes. The largest ones hold a request's labels and annotations, which a CRI message
// bounds at 16 MiB.
const maxFile = 32 << 20

// ErrTorn: a record file is there and cannot be believed: empty, cut off, not JSON, of another version or another id.
var ErrTorn = errors.New("the record cannot be read")

// WriteOnce writes v as dir/name, which must not be there yet. The file appears whole or not at all. It is not synced:
// a record must survive the daemon, not a power cut (an image's does that itself).
func WriteOnce(dir, name string, v any) error {
	return write(dir, name, v, unix.RENAME_NOREPLACE)
}

// Replace writes v as dir/name in place of what is there.
func Replace(dir, name string, v any) error { return write(dir, name, v, 0) }

func write(dir, name string, v any, flags uint) (err error) {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) >= maxFile {
		return spec.Invalidf("record %s of %d bytes is larger than %d: shorten the labels and annotations", name, len(b), maxFile)
	}
	tmp, err := os.CreateTemp(dir, "."+name+".*")
	if err != nil {
		return diskError(err)
	}
	defer func() {
		if err != nil {
			os.Remove(tmp.Name())
		}
	}()
	_, err = tmp.Write(append(b, '\n'))
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = unix.Renameat2(unix.AT_FDCWD, tmp.Name(), unix.AT_FDCWD, filepath.Join(dir, name), flags)
	}
	if err != nil {
		return diskError(fmt.Errorf("record %s in %s: %w", name, dir, err))
	}
	return nil
}

// Read fills v from dir/name. The error matches fs.ErrNotExist where there is none, and ErrTorn where it cannot be
// believed.
func Read(dir, name string, v any) error {
	path := filepath.Join(dir, name)
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %w", path, ErrTorn, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return fmt.Errorf("%s: %w: %w", path, ErrTorn, err)
	}
	if len(b) > maxFile {
		return fmt.Errorf("%s: %w: larger than %d bytes", path, ErrTorn, maxFile)
	}
	version := struct{ Version int }{}
	if err := json.Unmarshal(b, &version); err != nil {
		return fmt.Errorf("%s: %w: %w", path, ErrTorn, err)
	}
	if version.Version != spec.RecordVersion {
		return fmt.Errorf("%s: %w: version %d, this release knows %d", path, ErrTorn, version.Version, spec.RecordVersion)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w: %w", path, ErrTorn, err)
	}
	return nil
}
