package cni

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is the pause behind a change of the directory: a file is mostly followed by another.
const settle = 100 * time.Millisecond

// watch looks again whenever something in the configuration directory changes, or the directory comes or goes. Where
// that cannot be watched, the age of the answer has it looked at.
func (n *Network) watch() {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		n.log.Warn("the directory of network configurations is not watched, and looked at in intervals only", "error", err)
		return
	}
	n.wait.Go(func() {
		defer w.Close()
		for {
			n.follow(w)
			n.changed() // also for what happened before the watch
			select {
			case <-n.ctx.Done():
				return
			case <-w.Events:
			case <-w.Errors: // events were lost: as good as one
			}
			if !n.calm(w) {
				return
			}
		}
	})
}

// follow has the directory watched, or the nearest one above it. The watcher's own list is believed alone: a directory
// that was replaced has its old name and no watch.
func (n *Network) follow(w *fsnotify.Watcher) {
	for range 10 { // it may come and go between the look and the watch
		at, list := nearest(n.cfg.ConfDir), w.WatchList()
		if len(list) == 1 && list[0] == at {
			return
		}
		for _, old := range list {
			w.Remove(old)
		}
		if err := w.Add(at); err != nil && !errors.Is(err, fs.ErrNotExist) {
			n.log.Warn("the directory of network configurations is not watched, and looked at in intervals only", "directory", at, "error", err)
			return
		}
	}
}

// calm waits until nothing has happened for a moment, for a second at most; it is false when the Network is closed.
func (n *Network) calm(w *fsnotify.Watcher) bool {
	end := time.After(time.Second)
	for {
		select {
		case <-n.ctx.Done():
			return false
		case <-w.Events:
		case <-w.Errors:
		case <-time.After(settle):
			return true
		case <-end:
			return true
		}
	}
}

func (n *Network) changed() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.state.looking {
		n.lookBehind()
		return
	}
	n.state.again = true
}

// nearest is the directory, or the closest one above it that is there.
func nearest(dir string) string {
	for {
		if st, err := os.Stat(dir); err == nil && st.IsDir() || dir == "/" {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}
