package stats

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// maxDescriptors bounds the descriptors of one container whose kind is looked up. Beyond it the metric is left out.
const maxDescriptors = 4096

// Processes counts the processes of a group and of all below it.
func (c *Collector) Processes(path string) (uint64, error) {
	pids, err := c.o.Groups.Processes(path)
	return uint64(len(pids)), err
}

// Detail finds what only metrics tell. init is the container's first process, dir its writable layer.
func (c *Collector) Detail(path string, init int, dir string) (*spec.ContainerDetail, error) {
	pids, err := c.o.Groups.Processes(path)
	if err != nil {
		return nil, err
	}
	d := &spec.ContainerDetail{Processes: uint64(len(pids)), FileSystem: c.fileSystem(dir)}
	if all, sockets, ok := descriptors(pids); ok {
		d.Descriptors, d.Sockets = &all, &sockets
	}
	if slices.Contains(pids, init) { // else the number may be another's
		var l unix.Rlimit
		if unix.Prlimit(init, unix.RLIMIT_NOFILE, nil, &l) == nil && l.Cur != unix.RLIM_INFINITY {
			d.SoftDescriptors = &l.Cur
		}
	}
	return d, nil
}

// descriptors counts the open files of processes, and the sockets among them. It is not ok where there are too many.
func descriptors(pids []int) (all, sockets uint64, ok bool) {
	for _, pid := range pids {
		dir, err := os.Open(filepath.Join("/proc", strconv.Itoa(pid), "fd"))
		if err != nil {
			continue // it ended
		}
		names, _ := dir.Readdirnames(maxDescriptors + 1)
		dir.Close()
		if all += uint64(len(names)); all > maxDescriptors {
			return 0, 0, false
		}
		for _, n := range names {
			if to, err := os.Readlink(filepath.Join(dir.Name(), n)); err == nil && strings.HasPrefix(to, "socket:") {
				sockets++
			}
		}
	}
	return all, sockets, true
}

// fileSystem is the one that dir is on, or nil.
func (c *Collector) fileSystem(dir string) *spec.FileSystem {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return nil
	}
	return &spec.FileSystem{Device: c.o.Device, Bytes: st.Blocks * uint64(st.Bsize), Inodes: st.Files, FreeInodes: st.Ffree}
}

// Device names the device that holds path: the source of the mount, such as /dev/vda1, or "" where it cannot be told.
func Device(path string) string {
	mounts, err := mountinfo.GetMounts(mountinfo.ParentsFilter(path))
	if err != nil {
		return ""
	}
	best := &mountinfo.Info{}
	for _, m := range mounts {
		if len(m.Mountpoint) >= len(best.Mountpoint) { // of two at one place the later one covers the other
			best = m
		}
	}
	return best.Source
}
