package logs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/fsnotify/fsnotify"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// follow reads and waits in turn. The directory is watched before the log is opened, so no change is missed.
func (r *reader) follow(ctx context.Context) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return spec.Errorf(errdefs.ErrUnavailable, "watch the log's directory: %w", err)
	}
	defer w.Close()
	dir := filepath.Dir(r.o.Path)
	if err := w.Add(dir); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return spec.NotFoundf("the log's directory %q does not exist", dir)
		}
		return spec.Errorf(errdefs.ErrUnavailable, "watch the log's directory %q: %w", dir, err)
	}
	for begun := false; ; {
		ended := r.ended() // asked before reading: what was written until then is read
		if err := r.more(ctx, &begun); err != nil {
			return err
		}
		if ended {
			return r.last()
		}
		if err := r.join.show(); err != nil {
			return err
		}
		if err := r.wait(ctx, w); err != nil {
			return err
		}
	}
}

func (r *reader) ended() bool {
	select {
	case <-r.o.Ended:
		return true
	default:
		return false
	}
}

// wait waits for a change of the log or of a file that takes its place.
func (r *reader) wait(ctx context.Context, w *fsnotify.Watcher) error {
	base := filepath.Base(r.o.Path)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.o.Ended:
			return nil
		case <-w.Errors:
			return nil // the queue overflowed, say: look
		case e, ok := <-w.Events:
			if !ok {
				return spec.Errorf(errdefs.ErrUnavailable, "the watch of the log's directory ended")
			}
			if strings.HasPrefix(filepath.Base(e.Name), base) {
				return nil
			}
		}
	}
}

// more reads all that there is, in the open file and those after it.
func (r *reader) more(ctx context.Context, begun *bool) error {
	for {
		if r.f == nil {
			switch err := r.open(r.o.Path); {
			case errors.Is(err, fs.ErrNotExist):
				return nil
			case err != nil:
				return err
			}
			if !*begun {
				*begun = true
				if err := r.begin(); err != nil {
					return err
				}
			}
		}
		if err := r.restart(); err != nil {
			return err
		}
		next, err := r.successor() // asked before reading: who made it has written its last to the open file
		if err != nil {
			return err
		}
		if err := r.toEnd(ctx); err != nil || next == nil {
			return err
		}
		if err := r.torn(); err != nil {
			return err
		}
		r.use(next)
	}
}

// successor opens the file that follows the open one; nil is none. A rotation between naming and opening it would have
// a file left out, so it is named once more.
func (r *reader) successor() (*os.File, error) {
	for {
		name := r.next()
		if name == "" {
			return nil, nil
		}
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // renamed or removed since
		}
		if err != nil {
			return nil, err
		}
		if again := r.next(); again == name || same(f, again) {
			return f, nil
		}
		f.Close()
	}
}

func same(f *os.File, path string) bool {
	a, err1 := f.Stat()
	b, err2 := os.Stat(path)
	return err1 == nil && err2 == nil && os.SameFile(a, b)
}

// restart begins again in a file that was cut while it was open.
func (r *reader) restart() error {
	st, err := r.f.Stat()
	if err != nil || st.Size() >= r.pos {
		return err
	}
	r.rest, r.pos = 0, 0
	_, err = r.f.Seek(0, 0)
	return err
}

// next names the file that follows the open one, or "" while that is the log. After more than one rotation it is the
// oldest rotated file (log.TIME, as kubelet names them) that is younger than the open one; compressed ones are skipped.
func (r *reader) next() string {
	here, err := r.f.Stat()
	if err != nil {
		return ""
	}
	log, missing := os.Stat(r.o.Path)
	if missing == nil && os.SameFile(here, log) {
		return ""
	}
	dir, base := filepath.Split(r.o.Path)
	names, err := os.ReadDir(dir)
	if err != nil && missing != nil {
		return "" // removed with its container: what is open is all that there is
	}
	if err != nil {
		return r.o.Path
	}
	own, next := r.name, ""
	var rotated []string
	for _, d := range names { // sorted by name, so by time
		if !strings.HasPrefix(d.Name(), base+".") || strings.HasSuffix(d.Name(), ".gz") || strings.HasSuffix(d.Name(), ".tmp") {
			continue
		}
		rotated = append(rotated, d.Name())
		if st, err := d.Info(); err == nil && os.SameFile(here, st) {
			own = d.Name()
		}
	}
	for _, name := range rotated {
		if own != base && name > own {
			next = name
			break
		}
	}
	if next == "" && missing != nil {
		return "" // between its rename and its reopening
	}
	if next == "" {
		return r.o.Path
	}
	return filepath.Join(dir, next)
}
