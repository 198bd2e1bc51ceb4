package stage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
)

// group is a session's cgroup.
type group struct {
	dir    string // of the session
	parent string // the container's
	// controller is libcontainer's key for it: "" on v2, "freezer" on v1.
	controller string
}

// sessionGroup finds the place for a session's group from the container's own groups, by controller.
func sessionGroup(paths map[string]string, v2 bool, name string) (group, error) {
	g := group{controller: "freezer"}
	if v2 {
		g.controller = ""
	}
	g.parent = paths[g.controller]
	if g.parent == "" {
		return group{}, errors.New("the container has no cgroup in which a session could be ended")
	}
	g.dir = filepath.Join(g.parent, name)
	return g, nil
}

func (g group) make() error { return os.Mkdir(g.dir, 0o755) }

// kill ends every process of the group, again and again until it is empty or ctx ends.
func (g group) kill(ctx context.Context) error {
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		pids, err := cgroups.GetAllPids(g.dir)
		if gone(err) || err == nil && len(pids) == 0 {
			return nil
		}
		if err != nil {
			return err
		}
		if err := g.killOnce(pids); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d processes of %s have not ended: %w", len(pids), g.dir, ctx.Err())
		case <-time.After(wait):
		}
	}
}

func (g group) killOnce(pids []int) error {
	if g.controller != "freezer" {
		err := write(filepath.Join(g.dir, "cgroup.kill"), "1") // Linux 5.14
		if errors.Is(err, unix.ENOENT) {
			err = killAll(pids)
		}
		return ignoreGone(err)
	}
	if err := g.freeze(); err != nil {
		return ignoreGone(err)
	}
	pids, err := cgroups.GetAllPids(g.dir) // none of these can fork now
	if err == nil {
		err = killAll(pids)
	}
	// A frozen process dies only when it is thawed.
	if thawed := write(filepath.Join(g.dir, "freezer.state"), "THAWED"); err == nil {
		err = thawed
	}
	return ignoreGone(err)
}

// freeze waits a little for the v1 freezer. A process that sleeps in the kernel may take longer: it cannot fork either.
func (g group) freeze() error {
	for range 20 {
		file := filepath.Join(g.dir, "freezer.state")
		if err := write(file, "FROZEN"); err != nil {
			return err
		}
		state, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if string(state) == "FROZEN\n" {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

func killAll(pids []int) error {
	for _, pid := range pids {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("kill %d: %w", pid, err)
		}
	}
	return nil
}

// remove gives what still runs to the container's group, and removes the session's. A group that is not there is
// removed.
func (g group) remove() error {
	for range 100 {
		err := os.Remove(g.dir)
		if err == nil || gone(err) {
			return nil
		}
		pids, err := cgroups.GetPids(g.dir)
		if err != nil {
			return ignoreGone(err)
		}
		for _, pid := range pids {
			err := write(filepath.Join(g.parent, "cgroup.procs"), strconv.Itoa(pid))
			if err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
		if len(pids) == 0 {
			time.Sleep(time.Millisecond) // a process that is just ending
		}
	}
	return cgroups.RemovePath(g.dir) // with groups below it, where the container may make such
}

// write sets a file of a cgroup. It never makes one.
func write(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(text)
	return err
}

// gone: the group, or the process, is not there any more.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV)
}

func ignoreGone(err error) error {
	if gone(err) {
		return nil
	}
	return err
}
