package device

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Set is what a container gets to see and may use.
type Set struct {
	Devices []specs.LinuxDevice
	Rules   []specs.LinuxDeviceCgroup
	// Sources are the node's paths of Devices, by their paths in the container, with every link followed.
	Sources map[string]string
}

// Limits on a directory of devices, against one that somebody filled.
const (
	maxDevices = 4096
	maxEntries = 65536
	maxDepth   = 16
)

// Resolve looks the request's devices up. A symbolic link as a host path is followed; one inside a directory of devices
// is left out. In a directory every device counts, and all else is left out. InvalidArgument names the field and says
// what is wrong: no device there, permissions other than a subset of "rwm", a place where no device can be, twice the
// same place; NotFound where there is nothing.
func Resolve(devices []spec.Device) (Set, error) {
	var s Set
	taken := map[string]bool{}
	for i, d := range devices {
		if err := s.add(d, taken); err != nil {
			kind := spec.KindOf(err)
			return Set{}, spec.Errorf(kind, "devices[%d]: %w", i, err)
		}
	}
	return s, nil
}

func (s *Set) add(d spec.Device, taken map[string]bool) error {
	if err := check(d); err != nil {
		return err
	}
	to := filepath.Clean(d.ContainerPath)
	real, err := filepath.EvalSymlinks(d.HostPath)
	if errors.Is(err, fs.ErrNotExist) {
		return spec.NotFoundf("host path %q is not there", d.HostPath)
	}
	if err != nil {
		return spec.Invalidf("host path %q: %w", d.HostPath, err)
	}
	found, err := list(real, nil)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return spec.Invalidf("host path %q is no device, nor a directory that holds one", d.HostPath)
	}
	for _, n := range found {
		source := n.Path
		n.Path = filepath.Join(to, strings.TrimPrefix(n.Path, real))
		if taken[n.Path] {
			return spec.Invalidf("container path %q is given twice", n.Path)
		}
		taken[n.Path] = true
		if len(taken) > maxDevices {
			return spec.Invalidf("more than %d devices", maxDevices)
		}
		major, minor := n.Major, n.Minor
		if s.Sources == nil {
			s.Sources = map[string]string{}
		}
		s.Sources[n.Path] = source
		s.Devices = append(s.Devices, n)
		s.Rules = append(s.Rules, specs.LinuxDeviceCgroup{Allow: true, Type: n.Type, Major: &major, Minor: &minor, Access: d.Permissions})
	}
	return nil
}

func check(d spec.Device) error {
	to := filepath.Clean(d.ContainerPath)
	switch {
	case !filepath.IsAbs(d.HostPath) || strings.IndexByte(d.HostPath, 0) >= 0:
		return spec.Invalidf("host path %.64q is not an absolute path", d.HostPath)
	case !filepath.IsAbs(d.ContainerPath) || strings.IndexByte(d.ContainerPath, 0) >= 0 || to == "/" || under(to, "/proc") || under(to, "/sys"):
		return spec.Invalidf("container path %.64q is no place for a device", d.ContainerPath)
	case d.Permissions == "":
		return spec.Invalidf("no permissions for %q: give a subset of \"rwm\"", d.HostPath)
	}
	for i, r := range d.Permissions {
		if !strings.ContainsRune("rwm", r) || strings.ContainsRune(d.Permissions[:i], r) {
			return spec.Invalidf("permissions %.16q for %q are not a subset of \"rwm\"", d.Permissions, d.HostPath)
		}
	}
	return nil
}

func under(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

// list is the device at path, or all those below it. skip tells which directories and files to leave out.
func list(path string, skip func(string) bool) ([]specs.LinuxDevice, error) {
	var out []specs.LinuxDevice
	entries := 0
	err := filepath.WalkDir(path, func(p string, e fs.DirEntry, err error) error {
		if entries++; entries > maxEntries || len(out) > maxDevices || strings.Count(p, "/")-strings.Count(path, "/") > maxDepth {
			return spec.Invalidf("%q holds more than %d entries, %d devices or %d levels", path, maxEntries, maxDevices, maxDepth)
		}
		switch {
		case errors.Is(err, fs.ErrNotExist) && p != path:
			return nil // taken away meanwhile
		case err != nil:
			return spec.Preconditionf("%q: %w", p, err)
		case skip != nil && skip(p):
			if e.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		n, ok, err := node(p)
		if ok {
			out = append(out, n)
		}
		return err
	})
	return out, err
}

// node is the device at path, which is not followed.
func node(path string) (specs.LinuxDevice, bool, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); errors.Is(err, unix.ENOENT) {
		return specs.LinuxDevice{}, false, nil
	} else if err != nil {
		return specs.LinuxDevice{}, false, spec.Preconditionf("%q: %w", path, err)
	}
	kind := ""
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		kind = "c"
	case unix.S_IFBLK:
		kind = "b"
	default:
		return specs.LinuxDevice{}, false, nil
	}
	rdev := uint64(st.Rdev) //nolint:unconvert // uint32 on some architectures
	if rdev == 0 {
		return specs.LinuxDevice{}, false, nil // an overlay's whiteout
	}
	mode := os.FileMode(st.Mode & 0o777)
	uid, gid := st.Uid, st.Gid
	return specs.LinuxDevice{
		Path: path, Type: kind, Major: int64(unix.Major(rdev)), Minor: int64(unix.Minor(rdev)), FileMode: &mode, UID: &uid, GID: &gid,
	}, true, nil
}

// All are the devices of the node's /dev, for a privileged container: without terminals, which are mounts of the
// container's own, and without the console, which is its terminal where it has one. Its cgroup allows every device, so
// there are no rules.
func All() (Set, error) { return all("/dev") }

// Privileged is All with the request's own devices, which may be elsewhere in the container; where both have a place, the
// request's counts.
func Privileged(devices []spec.Device) (Set, error) {
	asked, err := Resolve(devices)
	if err != nil {
		return Set{}, err
	}
	every, err := All()
	if err != nil {
		return Set{}, err
	}
	taken := map[string]bool{}
	for _, d := range asked.Devices {
		taken[d.Path] = true
	}
	for _, d := range every.Devices {
		if !taken[d.Path] {
			asked.Devices = append(asked.Devices, d)
		}
	}
	return Set{Devices: asked.Devices}, nil
}

func all(dir string) (Set, error) {
	own := map[string]bool{}
	for _, n := range []string{"pts", "shm", "fd", "mqueue", "hugepages", "console", "ptmx"} {
		own[filepath.Join(dir, n)] = true
	}
	found, err := list(dir, func(p string) bool { return own[p] })
	if err != nil {
		return Set{}, fmt.Errorf("the node's devices: %w", err)
	}
	return Set{Devices: found}, nil
}
