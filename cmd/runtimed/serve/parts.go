package serve

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/cmd/runtimed/config"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// programs finds the directory of the programs that the daemon starts, and refuses one where any is missing: better now
// than at the first pod.
func programs(c config.Config) (string, error) {
	dir, err := c.LibexecDir()
	if err != nil {
		return "", err
	}
	var missing []string
	for _, name := range []string{"runtimed-shim", "runtimed-monitor", "runtimed-init", "runtimed-unpack"} {
		if unix.Access(filepath.Join(dir, name), unix.X_OK) != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return "", spec.Preconditionf("%s cannot be executed in %s: install all programs there, or set libexec to where they are",
			strings.Join(missing, ", "), dir)
	}
	return dir, nil
}

// users answers the image store's question for the images of all containers. Before the records are read nobody knows:
// the question waits.
type users struct {
	runtime atomic.Pointer[interface{ ImagesInUse() []spec.ImageUse }]
	known   chan struct{}
}

func (u *users) is(r interface{ ImagesInUse() []spec.ImageUse }) {
	u.runtime.Store(&r)
	close(u.known)
}

// end lets a question go that will not be answered.
func (u *users) end() error {
	if u.runtime.Load() == nil {
		close(u.known)
	}
	return nil
}

func (u *users) images() []spec.ImageUse {
	<-u.known
	r := u.runtime.Load()
	if r == nil {
		return nil
	}
	return (*r).ImagesInUse()
}

// maxSpec bounds a config.json that is shown.
const maxSpec = 4 << 20

// specReader reads the config.json of a container, for a person.
func specReader(l spec.Layout) func(sandboxID, containerID string) ([]byte, error) {
	return func(sandboxID, containerID string) ([]byte, error) {
		f, err := os.OpenFile(filepath.Join(l.Container(sandboxID, containerID), spec.ConfigFile), os.O_RDONLY|unix.O_NOFOLLOW, 0)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return io.ReadAll(io.LimitReader(f, maxSpec))
	}
}
