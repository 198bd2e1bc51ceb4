package stats

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxDepth bounds the directories that are open at one time. What lies deeper is not counted.
	maxDepth = 1000
	// batch is how many entries are looked at between two looks at the clock.
	batch = 256
	// duty is the share of time that a walk takes: one part of this many.
	duty = 10
)

// errBudget ends a walk that may see only so many entries.
var errBudget = errors.New("too many files for a quick look")

// walker counts a tree that its owner may change at the same time, and wants to be expensive. It follows no link, leaves
// no file system, and holds nothing in memory but the names of one batch for each level.
type walker struct {
	dev    uint64
	budget int // entries; negative is without bound
	pace   func(worked time.Duration) error

	blocks float64 // of 512 bytes
	inodes float64
	begin  time.Time // of the work since the last pause
}

// walk counts the tree below dir as du(1) does: each inode once, whatever its names.
func walk(ctx context.Context, dir string, budget int, slow bool) (bytes, inodes uint64, err error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, 0, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	w := walker{budget: budget, begin: time.Now(), pace: func(time.Duration) error { return ctx.Err() }}
	if slow {
		w.pace = func(worked time.Duration) error { return sleep(ctx, worked*(duty-1)) }
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return 0, 0, &fs.PathError{Op: "stat", Path: dir, Err: err}
	}
	w.dev = st.Dev
	w.count(&st)
	if err := w.directory(fd, 0); err != nil {
		return 0, 0, err
	}
	return uint64(w.blocks*512 + 0.5), uint64(w.inodes + 0.5), nil
}

// count adds an entry. Of an inode with several names each counts its share: that they are all below here need not be
// remembered then.
func (w *walker) count(st *unix.Stat_t) {
	share := 1.0
	if st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Nlink > 1 {
		share = 1 / float64(st.Nlink)
	}
	w.blocks += share * float64(st.Blocks)
	w.inodes += share
}

// directory counts what is in an open directory, and closes it.
func (w *walker) directory(fd, depth int) error {
	dir := os.NewFile(uintptr(fd), "")
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(batch)
		for _, name := range names {
			if err := w.entry(fd, name, depth); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			if gone(err) {
				return nil
			}
			return err
		}
		worked := time.Since(w.begin)
		if err := w.pace(worked); err != nil {
			return err
		}
		w.begin = time.Now()
	}
}

func (w *walker) entry(dir int, name string, depth int) error {
	if w.budget == 0 {
		return errBudget
	}
	w.budget--
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		if gone(err) {
			return nil
		}
		return err
	}
	if st.Dev != w.dev {
		return nil
	}
	w.count(&st)
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || depth == maxDepth {
		return nil
	}
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		if gone(err) {
			return nil
		}
		return err
	}
	return w.directory(fd, depth+1)
}

// gone: the entry was taken away, or became something else, since its name was read.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ESTALE)
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
