package registry

import (
	"context"
	"errors"
	"io"
	"time"
)

// watch is an answer's body under a clock and a cap.
type watch struct {
	body     io.ReadCloser
	ctx      context.Context
	parent   context.Context
	cancel   context.CancelCauseFunc
	stall    *time.Timer
	whole    *time.Timer // nil for a blob
	progress time.Duration
	left     int64
}

func (w *watch) Read(p []byte) (int, error) {
	if w.left == 0 {
		return 0, w.beyond()
	}
	if w.left > 0 && int64(len(p)) > w.left {
		p = p[:w.left]
	}
	// The clock runs while the registry is waited for, not while a slow disk takes what it sent.
	w.stall.Reset(w.progress)
	n, err := w.body.Read(p)
	w.stall.Stop()
	if w.left > 0 {
		w.left -= int64(n)
	}
	if err != nil && err != io.EOF {
		err = w.explain(err)
	}
	return n, err
}

// beyond tells the end of an answer that has exactly the allowed length from one that goes on.
func (w *watch) beyond() error {
	n, err := w.body.Read(make([]byte, 1))
	if n > 0 {
		return errLong
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// explain returns the watch's own reason where it ended the request.
func (w *watch) explain(err error) error {
	if w.parent.Err() == nil {
		if cause := context.Cause(w.ctx); errors.Is(cause, errStalled) || errors.Is(cause, errSlow) {
			return cause
		}
	}
	return err
}

func (w *watch) end() {
	w.stall.Stop()
	if w.whole != nil {
		w.whole.Stop()
	}
	w.cancel(nil)
}

func (w *watch) Close() error {
	err := w.body.Close()
	w.end()
	return err
}
