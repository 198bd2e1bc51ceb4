package leak

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// mounts finds what is mounted below the run directory, and pins in the directory of network namespaces, that no
// sandbox of this daemon holds. In that directory, which is shared, a name of 64 hex digits is a sandbox's.
func mounts(_ context.Context, o Options, known records) ([]Leak, error) {
	run, err := resolved(o.Layout.Run)
	if err != nil {
		return nil, err
	}
	netns, err := resolved(o.Layout.Netns)
	if err != nil {
		return nil, err
	}
	table, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, err
	}
	live := known.live()
	var out []Leak
	pinned := map[string]bool{}
	for _, m := range table {
		if rel, ok := below(run, m.Mountpoint); ok {
			if l, leaked := runMount(m.Mountpoint, rel, live); leaked {
				out = append(out, l)
			}
		} else if id, ok := below(netns, m.Mountpoint); ok && idForm.MatchString(id) {
			pinned[id] = true
			if !live[id] {
				out = append(out, Leak{Pin, fmt.Sprintf("network namespace pin %s is of no running sandbox of this daemon", m.Mountpoint), unmountFix(m.Mountpoint)})
			}
		}
	}
	left, err := os.ReadDir(o.Layout.Netns)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return out, err
	}
	for _, e := range left {
		if id := e.Name(); idForm.MatchString(id) && !live[id] && !pinned[id] {
			path := o.Layout.NetnsPin(id)
			out = append(out, Leak{Pin, fmt.Sprintf("file %s for a pin is of no running sandbox of this daemon", path), "rm " + path})
		}
	}
	return out, nil
}

// runMount judges a mount at rel below the run directory.
func runMount(path, rel string, live map[string]bool) (Leak, bool) {
	parts := strings.Split(rel, "/")
	switch {
	case parts[0] == "ns" && len(parts) == 3:
		if live[parts[1]] {
			return Leak{}, false
		}
		return Leak{Pin, fmt.Sprintf("%s namespace pin %s is of no running sandbox", parts[2], path), unmountFix(path)}, true
	case parts[0] == "shm" && len(parts) == 2:
		if live[parts[1]] {
			return Leak{}, false
		}
		return Leak{Mount, fmt.Sprintf("/dev/shm of a pod at %s is of no running sandbox", path), unmountFix(path)}, true
	}
	return Leak{Mount, fmt.Sprintf("mount at %s: a container's mounts are never the node's", path), unmountFix(path)}, true
}

func unmountFix(path string) string {
	return fmt.Sprintf("start the daemon, which removes it; or umount -l %s && rm -d %[1]s", path)
}

// resolved is a path as the mount table has it. One that is not there has nothing mounted below it.
func resolved(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return path, nil
	}
	return real, err
}

func below(dir, path string) (rel string, ok bool) {
	rel, ok = strings.CutPrefix(path, dir+"/")
	return rel, ok && rel != ""
}
