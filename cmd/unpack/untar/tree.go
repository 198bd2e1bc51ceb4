package untar

import (
	"errors"
	"io/fs"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/image/layer"
	"github.com/runtimed/runtimed/pkg/image/rootfs"
)

const (
	// maxDirs is how many directories are held open.
	maxDirs = 512
	// maxLinks is how many symbolic links the parents of one name may lead through, as in the kernel (path_resolution(7)).
	maxLinks = 40
	// maxPath leaves room below PATH_MAX for one more component.
	maxPath = unix.PathMax - 256
	// Looking up parents takes at most freeSteps, and stepsPerEntry for each entry, in all: an archive cannot make the
	// work grow faster than itself by long chains of links.
	freeSteps     = 1 << 20
	stepsPerEntry = 128
)

// tree is the merged tree: the target above the lower layers. What is on disk below the target is its state, but for
// the opaque directories, which are on disk only after hide.
type tree struct {
	lower  *rootfs.Stack
	limits layer.Limits
	root   *dir

	// dirs are the directories of the target in use, by their path without links. alias are the same by other paths;
	// links are the links that those lead through. All three are dropped together (forget); loose are descriptors of
	// directories that are in use, perhaps, but not known any more.
	dirs  map[string]*dir
	alias map[string]*dir
	links map[string]struct{}
	loose []int

	// opaque are the target's directories through which nothing of the lower layers shows although there is something,
	// by inode number; the value is their path.
	opaque map[uint64]string
	// copied is what is in the target without an entry of this layer, by path: directories that lead to an entry, and files
	// that a hard link needed.
	copied map[string]uint64

	times   *times
	bytes   int64
	entries int64
	headers int64 // read from the archive
	steps   int64 // taken to look up parents
}

// dir is a directory of the target.
type dir struct {
	path  string // relative to the root, without links; "" is the root
	fd    int
	ino   uint64
	lower rootfs.Dir // what shows through
}

func newTree(target int, lower *rootfs.Stack, limits layer.Limits) (*tree, error) {
	fd, err := unix.Openat(target, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, kernel("open", "target", err)
	}
	t := &tree{
		lower: lower, limits: limits, root: &dir{fd: fd, lower: lower.Root()},
		opaque: map[uint64]string{}, copied: map[string]uint64{},
	}
	t.forget()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		t.close()
		return nil, kernel("stat", "target", err)
	}
	t.root.ino = st.Ino
	if err := errors.Join(unix.Fchown(fd, 0, 0), unix.Fchmod(fd, 0o755)); err != nil {
		t.close()
		return nil, kernel("chown", "target", err)
	}
	if t.times, err = newTimes(fd); err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

func (t *tree) close() {
	t.forget()
	t.rest()
	if t.times != nil {
		t.times.close()
	}
	unix.Close(t.root.fd)
}

// forget drops what is known of the target's directories. Those in use stay open until rest.
func (t *tree) forget() {
	for _, d := range t.dirs {
		if d != t.root {
			t.loose = append(t.loose, d.fd)
		}
	}
	t.dirs, t.alias, t.links = map[string]*dir{"": t.root}, map[string]*dir{}, map[string]struct{}{}
}

// changed drops what was learned through a name that is about to be something else.
func (t *tree) changed(name string) {
	// The directories known include the parents of each, so one look is enough.
	if t.dirs[name] == nil {
		if _, ok := t.links[name]; !ok {
			return
		}
	}
	t.forget()
}

// rest bounds the descriptors in use; no *dir but the root may be held across it.
func (t *tree) rest() {
	if len(t.dirs) >= maxDirs || len(t.alias) >= 4*maxDirs {
		t.forget()
	}
	for _, fd := range t.loose {
		unix.Close(fd)
	}
	t.loose = t.loose[:0]
}

// count adds to what the layer has and checks the limits.
func (t *tree) count(entries, bytes int64) error {
	t.entries += entries
	t.bytes += bytes
	switch {
	case t.entries > t.limits.Entries:
		return tooMuchf("there are more than %d entries, the limit of one layer", t.limits.Entries)
	case t.bytes > t.limits.Bytes || t.bytes < 0:
		return tooMuchf("its files have more than %d bytes, the limit of one layer", t.limits.Bytes)
	}
	return nil
}

// directory returns a directory of the merged tree, in the target: where it is not there yet, its attributes are copied
// from below. Links in name are followed. Where nothing has it, it is made (0755, owned by root) if make is set, else the
// error matches fs.ErrNotExist.
func (t *tree) directory(name string, make bool) (*dir, error) {
	if d := t.dirs[name]; d != nil {
		return d, nil
	}
	if d := t.alias[name]; d != nil {
		return d, nil
	}
	at, todo, links := t.root, name, 0
	for todo != "" {
		first, rest, _ := strings.Cut(todo, "/")
		next, link, err := t.step(at, first, make)
		if err != nil {
			return nil, err
		}
		if next != nil {
			at, todo = next, rest
			continue
		}
		if links++; links > maxLinks {
			return nil, badf("the parents of %s lead through too many symbolic links", short(name))
		}
		if !path.IsAbs(link) {
			link = at.path + "/" + link
		}
		// Like archive.Apply, ".." in a link takes a component away without looking at what that one is.
		at, todo = t.root, clean(link+"/"+rest)
		if len(todo) > maxPath {
			return nil, badf("the parents of %s lead to a path of more than %d bytes", short(name), maxPath)
		}
	}
	if at.path != name && t.dirs[at.path] == at {
		t.alias[name] = at
	}
	return at, nil
}

// step goes one component down. It returns the directory there, or else the target of the link there.
func (t *tree) step(at *dir, name string, make bool) (*dir, string, error) {
	full := join(at.path, name)
	if t.steps++; t.steps > freeSteps+stepsPerEntry*t.headers {
		return nil, "", tooMuchf("its names lead through too many directories and symbolic links, %s last", short(full))
	}
	if d := t.dirs[full]; d != nil {
		return d, "", nil
	}
	if len(full) > maxPath || strings.Count(full, "/") >= t.limits.Depth {
		return nil, "", badf("path %s is longer than %d bytes or deeper than %d", short(full), maxPath, t.limits.Depth)
	}
	st, err := statAt(at.fd, name)
	switch {
	case errors.Is(err, unix.ENOENT):
		return t.stepBelow(at, name, make)
	case err != nil:
		return nil, "", kernel("look up", full, err)
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		d, err := t.open(at, name)
		return d, "", err
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		link, err := readlinkAt(at.fd, name)
		t.links[full] = struct{}{}
		return nil, link, kernel("read link", full, err)
	case rootfs.IsWhiteout(st.Mode, uint64(st.Rdev)) && make:
		d, _, err := t.mkdir(at, name)
		return d, "", err
	case rootfs.IsWhiteout(st.Mode, uint64(st.Rdev)):
		return nil, "", notFound(full)
	}
	return nil, "", badf("%s is no directory, but an entry is below it", short(full))
}

// stepBelow is step where the target has nothing of that name.
func (t *tree) stepBelow(at *dir, name string, make bool) (*dir, string, error) {
	full := join(at.path, name)
	node, err := t.lower.Lookup(at.lower, name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && make:
		d, _, err := t.mkdir(at, name)
		return d, "", err
	case errors.Is(err, fs.ErrNotExist):
		return nil, "", notFound(full)
	case err != nil:
		return nil, "", kernel("look up", full, err)
	case node.Type() == unix.S_IFDIR:
		d, _, err := t.mkdir(at, name)
		if err == nil {
			err = t.copyDir(d, node)
		}
		if err == nil && len(t.copied) < maxCopied {
			t.copied[full] = d.ino
		}
		return d, "", err
	case node.Type() == unix.S_IFLNK:
		link, err := t.lower.Readlink(node)
		t.links[full] = struct{}{}
		return nil, link, kernel("read link", full, err)
	}
	return nil, "", badf("%s is no directory, but an entry is below it", short(full))
}

// open opens a directory of the target and finds what shows through it.
func (t *tree) open(at *dir, name string) (*dir, error) {
	full := join(at.path, name)
	fd, err := unix.Openat(at.fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, kernel("open", full, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, kernel("stat", full, err)
	}
	d := &dir{path: full, fd: fd, ino: st.Ino}
	if _, hidden := t.opaque[d.ino]; !hidden && !at.lower.Empty() {
		node, err := t.lower.Lookup(at.lower, name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			unix.Close(fd)
			return nil, kernel("look up", full, err)
		}
		d.lower = node.Dir
	}
	if t.dirs[at.path] == at {
		t.dirs[full] = d
	} else {
		t.loose = append(t.loose, fd)
	}
	return d, nil
}

// mkdir makes a directory (0755, owned by root) or takes the one that is there, instead of anything else that is there.
// What it replaces hides the lower layers' directory of that name for good. fresh tells that it was made and that the
// lower layers' directory, if there is one, shows through.
func (t *tree) mkdir(at *dir, name string) (d *dir, fresh bool, err error) {
	full := join(at.path, name)
	t.changed(full)
	replaced := false
	err = unix.Mkdirat(at.fd, name, 0o755)
	for err == unix.EEXIST {
		st, serr := statAt(at.fd, name)
		if serr != nil {
			return nil, false, kernel("look up", full, serr)
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			d, err = t.open(at, name)
			return d, false, err
		}
		if err := t.remove(at, name); err != nil {
			return nil, false, err
		}
		replaced = true
		err = unix.Mkdirat(at.fd, name, 0o755)
	}
	if err != nil {
		return nil, false, kernel("make", full, err)
	}
	if err := t.count(1, 0); err != nil {
		return nil, false, err
	}
	if d, err = t.open(at, name); err != nil {
		return nil, false, err
	}
	// A parent may hand down its set-group-id bit and its default ACL.
	if err := unix.Fchmod(d.fd, 0o755); err != nil {
		return nil, false, kernel("chmod", full, err)
	}
	if replaced {
		return d, false, t.hideBelow(d)
	}
	return d, true, nil
}

// clean makes a path relative to the root, without "..", "." and empty components; "" is the root.
func clean(name string) string { return path.Clean("/" + name)[1:] }

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

func notFound(name string) error {
	return &fs.PathError{Op: "look up", Path: name, Err: fs.ErrNotExist}
}

func statAt(fd int, name string) (unix.Stat_t, error) {
	var st unix.Stat_t
	return st, unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
}

func readlinkAt(fd int, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, name, buf)
	return string(buf[:max(n, 0)]), err
}
