package device

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// tree is a directory of devices among other things.
func tree(t *testing.T) string {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err, os.MkdirAll(dir+"/gpu/sub", 0o755), os.MkdirAll(dir+"/none", 0o755),
		unix.Mknod(dir+"/gpu/null", unix.S_IFCHR|0o640, int(unix.Mkdev(1, 3))),
		unix.Mknod(dir+"/gpu/sub/disk", unix.S_IFBLK|0o660, int(unix.Mkdev(7, 250))),
		unix.Mknod(dir+"/gpu/whiteout", unix.S_IFCHR|0o600, 0),
		unix.Mkfifo(dir+"/gpu/fifo", 0o600), os.WriteFile(dir+"/gpu/file", nil, 0o600),
		os.Symlink("/dev/zero", dir+"/gpu/link"), os.Symlink("gpu", dir+"/alias"),
		os.Symlink("loop", dir+"/loop"), unix.Chmod(dir+"/gpu/null", 0o640))
	return dir
}

func TestResolve(t *testing.T) {
	dir := tree(t)
	for _, c := range []struct {
		name, host, to, perms string
		want                  []string // "path type major:minor access"
		kind                  error
	}{
		{"one", dir + "/gpu/null", "/dev/x", "rw", []string{"/dev/x c 1:3 rw"}, nil},
		{"by a link", dir + "/gpu/link", "/dev/z", "r", []string{"/dev/z c 1:5 r"}, nil},
		{"block", dir + "/gpu/sub/disk", "/dev/d", "rwm", []string{"/dev/d b 7:250 rwm"}, nil},
		{"directory", dir + "/gpu", "/dev/gpu", "mr", []string{"/dev/gpu/null c 1:3 mr", "/dev/gpu/sub/disk b 7:250 mr"}, nil},
		{"directory by a link", dir + "/alias", "/dev/gpu/", "r", []string{"/dev/gpu/null c 1:3 r", "/dev/gpu/sub/disk b 7:250 r"}, nil},
		{"outside /dev", "/dev/null", "/opt/null", "r", []string{"/opt/null c 1:3 r"}, nil},
		{"over a standard one", "/dev/zero", "/dev/null", "r", []string{"/dev/null c 1:5 r"}, nil},
		{"empty directory", dir + "/none", "/dev/x", "r", nil, errdefs.ErrInvalidArgument},
		{"file", dir + "/gpu/file", "/dev/x", "r", nil, errdefs.ErrInvalidArgument},
		{"FIFO", dir + "/gpu/fifo", "/dev/x", "r", nil, errdefs.ErrInvalidArgument},
		{"whiteout", dir + "/gpu/whiteout", "/dev/x", "r", nil, errdefs.ErrInvalidArgument},
		{"missing", dir + "/gone", "/dev/x", "r", nil, errdefs.ErrNotFound},
		{"loop", dir + "/loop", "/dev/x", "r", nil, errdefs.ErrInvalidArgument},
		{"relative", "dev/null", "/dev/x", "r", nil, errdefs.ErrInvalidArgument},
		{"NUL", "/dev/null\x00", "/dev/x", "r", nil, errdefs.ErrInvalidArgument},
		{"to the root", "/dev/null", "/", "r", nil, errdefs.ErrInvalidArgument},
		{"into /proc", "/dev/null", "/proc/sysrq-trigger", "r", nil, errdefs.ErrInvalidArgument},
		{"into /proc by ..", "/dev/null", "/dev/../proc/kcore", "r", nil, errdefs.ErrInvalidArgument},
		{"into /sys", "/dev/null", "/sys/x", "r", nil, errdefs.ErrInvalidArgument},
		{"to a relative path", "/dev/null", "x", "r", nil, errdefs.ErrInvalidArgument},
		{"no permissions", "/dev/null", "/dev/x", "", nil, errdefs.ErrInvalidArgument},
		{"other permissions", "/dev/null", "/dev/x", "rx", nil, errdefs.ErrInvalidArgument},
		{"twice the same", "/dev/null", "/dev/x", "rr", nil, errdefs.ErrInvalidArgument},
		{"star", "/dev/null", "/dev/x", "rwm\n", nil, errdefs.ErrInvalidArgument},
	} {
		s, err := Resolve([]spec.Device{{HostPath: c.host, ContainerPath: c.to, Permissions: c.perms}})
		if got := shown(s); !slices.Equal(got, c.want) || (c.kind == nil) != (err == nil) || c.kind != nil && !errors.Is(err, c.kind) {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
	}
}

func shown(s Set) (out []string) {
	for i, d := range s.Devices {
		r := s.Rules[i]
		if !r.Allow || r.Type != d.Type || *r.Major != d.Major || *r.Minor != d.Minor {
			return []string{"the rule is of another device"}
		}
		out = append(out, fmt.Sprintf("%s %s %d:%d %s", d.Path, d.Type, d.Major, d.Minor, r.Access))
	}
	return out
}

func TestResolveKeepsModeAndOwner(t *testing.T) {
	dir := tree(t)
	must(t, os.Lchown(dir+"/gpu/null", 12, 34))
	s, err := Resolve([]spec.Device{{HostPath: dir + "/gpu/null", ContainerPath: "/dev/x", Permissions: "r"}})
	if err != nil || *s.Devices[0].FileMode != 0o640 || *s.Devices[0].UID != 12 || *s.Devices[0].GID != 34 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestResolveRefusesOnePlaceForTwo(t *testing.T) {
	_, err := Resolve([]spec.Device{{ContainerPath: "/dev/x", HostPath: "/dev/null", Permissions: "r"}, {ContainerPath: "/dev/./x", HostPath: "/dev/zero", Permissions: "r"}})
	if !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Error(err)
	}
}

func TestResolveIsBounded(t *testing.T) {
	dir := t.TempDir()
	for i := range maxDevices + 2 {
		must(t, unix.Mknod(fmt.Sprintf("%s/%d", dir, i), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
	}
	if _, err := Resolve([]spec.Device{{ContainerPath: "/dev/x", HostPath: dir, Permissions: "r"}}); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Error(err)
	}
	deep := t.TempDir()
	for d, i := deep, 0; i < maxDepth+2; i++ {
		d += "/d"
		must(t, os.Mkdir(d, 0o755))
	}
	if _, err := Resolve([]spec.Device{{ContainerPath: "/dev/x", HostPath: deep, Permissions: "r"}}); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Error(err)
	}
}

func TestAll(t *testing.T) {
	s, err := All()
	if err != nil {
		t.Fatal(err)
	}
	has := func(p string) bool {
		return slices.ContainsFunc(s.Devices, func(d specs.LinuxDevice) bool { return d.Path == p })
	}
	if !has("/dev/null") || has("/dev/console") || has("/dev/ptmx") || has("/dev/pts/ptmx") || len(s.Rules) != 0 {
		t.Errorf("%d devices, %d rules", len(s.Devices), len(s.Rules))
	}
	dir := t.TempDir()
	must(t, os.Mkdir(dir+"/pts", 0o755), unix.Mknod(dir+"/pts/0", unix.S_IFCHR, int(unix.Mkdev(136, 0))), unix.Mknod(dir+"/a", unix.S_IFCHR, int(unix.Mkdev(1, 3))))
	if s, err := all(dir); err != nil || len(s.Devices) != 1 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestPrivileged(t *testing.T) {
	s, err := Privileged([]spec.Device{
		{ContainerPath: "/opt/z", HostPath: "/dev/zero", Permissions: "r"}, {ContainerPath: "/dev/full", HostPath: "/dev/zero", Permissions: "r"},
	})
	every, err2 := All()
	must(t, err, err2)
	if len(s.Devices) != len(every.Devices)+1 || len(s.Rules) != 0 {
		t.Errorf("%d devices, %d of the node", len(s.Devices), len(every.Devices))
	}
	for _, d := range s.Devices {
		if d.Path == "/dev/full" && d.Minor != 5 {
			t.Error("the request's own device counts")
		}
	}
	if _, err := Privileged([]spec.Device{{ContainerPath: "/dev/x", HostPath: "/nope", Permissions: "r"}}); err == nil {
		t.Error("a missing device is refused")
	}
}
