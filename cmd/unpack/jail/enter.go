package jail

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	// Target is the layer's directory inside the jail; Lower(i) are those below it.
	Target = "/target"
	lower  = "/lower"
)

// Lower is the directory of the i-th layer below, lowest first, inside the jail.
func Lower(i int) string { return lower + "/" + strconv.Itoa(i) }

// Plan is what Enter is to set up.
type Plan struct {
	Target  string
	Parents []string // lowest first
	Args    []string // of the second image, its name first
	// FileSize bounds each file (RLIMIT_FSIZE), in bytes.
	FileSize int64
}

// step is one line of the jail. The order is the point: each has its reason.
type step struct {
	name string
	do   func() error
}

// Enter jails the calling process and replaces its image. It returns only with an error. The process must be in new mount
// and PID namespaces, and the caller on a locked thread.
func Enter(p Plan) error {
	self := -1
	var trees []int // target first, then parents
	steps := []step{
		{"new namespaces", requireNew},
		// Before anything is mounted, or it would be seen outside.
		{"private mounts", func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") }},
		// Paths mean something only until the root changes.
		{"own binary", func() (err error) {
			self, err = unix.Open("/proc/self/exe", unix.O_PATH|unix.O_CLOEXEC, 0)
			return err
		}},
		{"directories", func() (err error) { trees, err = clone(p); return err }},
		{"root", func() error { return enterRoot(p.Target, trees) }},
		{"limits", func() error { return setLimits(p.FileSize) }},
		// The bounding set bounds what the second image gets; it cannot be changed without CAP_SETPCAP, so before that goes.
		{"capabilities", dropBounding},
		{"no_new_privs", func() error { return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }},
		// After the last change of credentials: that would clear it (prctl(2)); execve of a binary without privileges does not.
		{"parent death", func() error { return unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0) }},
		{"second image", func() error { return execFD(self, p.Args) }},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			return fmt.Errorf("jail: %s: %w", s.name, err)
		}
	}
	return nil
}

// requireNew refuses to change the mounts of whoever ran the worker by hand.
func requireNew() error {
	if os.Getpid() != 1 {
		return fmt.Errorf("this is not the first process of a PID namespace: runtimed-unpack is started by runtimed alone")
	}
	unix.Umask(0)
	return nil
}

// clone makes detached copies of the mounts of all directories, which hide whatever is mounted below them.
func clone(p Plan) ([]int, error) {
	var trees []int
	for i, dir := range append([]string{p.Target}, p.Parents...) {
		fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", dir, err)
		}
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC}
		if i > 0 {
			attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
		}
		if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
			return nil, fmt.Errorf("%s: %w", dir, err)
		}
		trees = append(trees, fd)
	}
	return trees, nil
}

// enterRoot mounts a tmpfs over the target's own path, which needs no other directory to exist, and pivots into it.
func enterRoot(over string, trees []int) error {
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	if err := unix.Mount("jail", over, "tmpfs", flags, "mode=0700,size=1m,nr_inodes=1k"); err != nil {
		return fmt.Errorf("tmpfs: %w", err)
	}
	if err := unix.Chdir(over); err != nil {
		return err
	}
	if err := unix.Mkdir(lower[1:], 0o700); err != nil {
		return err
	}
	for i, tree := range trees {
		at := Target[1:]
		if i > 0 {
			at = Lower(i - 1)[1:]
		}
		if err := unix.Mkdir(at, 0o700); err != nil {
			return err
		}
		if err := unix.MoveMount(tree, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return fmt.Errorf("mount %s: %w", at, err)
		}
		unix.Close(tree)
	}
	// The old root goes on top of the new one, and away (pivot_root(2)).
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the old root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	readonly := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	return unix.MountSetattr(unix.AT_FDCWD, "/", 0, &readonly)
}

// setLimits bounds what a worker that went astray can use up.
func setLimits(fileSize int64) error {
	for _, l := range []struct {
		name  string
		what  int
		limit uint64
	}{
		// Data, not address space: Go reserves far more of that than it ever uses.
		{"data", unix.RLIMIT_DATA, 512 << 20},
		{"file size", unix.RLIMIT_FSIZE, uint64(fileSize)},
		// 512 directories in use, 500 layers, and 1,000 levels to remove.
		{"open files", unix.RLIMIT_NOFILE, 4096},
		{"core size", unix.RLIMIT_CORE, 0},
		{"locked memory", unix.RLIMIT_MEMLOCK, 0},
		{"message queues", unix.RLIMIT_MSGQUEUE, 0},
	} {
		var now unix.Rlimit
		if err := unix.Getrlimit(l.what, &now); err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
		limit := min(l.limit, now.Max)
		if err := unix.Setrlimit(l.what, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
	}
	return nil
}

// Capabilities are those that the second image has.
var Capabilities = []uintptr{
	unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_SETFCAP, unix.CAP_MKNOD,
}

func dropBounding() error {
	for c := uintptr(0); ; c++ {
		_, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0)
		if err == unix.EINVAL {
			break // past the kernel's last
		}
		if err != nil {
			return err
		}
		if keep(c) {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
			return fmt.Errorf("drop %d: %w", c, err)
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return err
	}
	// Root gets inheritable | bounding at execve (capabilities(7)): the inheritable set must be empty.
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	data[0].Inheritable, data[1].Inheritable = 0, 0
	if err := unix.Capset(&header, &data[0]); err != nil {
		return err
	}
	return unix.Setgroups(nil)
}

func keep(c uintptr) bool {
	for _, k := range Capabilities {
		if k == c {
			return true
		}
	}
	return false
}
