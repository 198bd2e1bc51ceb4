package stats

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/containerd/errdefs"
)

// sample reads the processor time of what was asked about, until nobody asks.
func (c *Collector) sample() {
	for sleep(c.quit, c.o.Times.Sample) == nil {
		due, more := c.due(&c.sampling, func(o *object, now time.Time) bool {
			return o.group != "" && now.Sub(o.cpu.last.at) >= c.o.Times.Sample*9/10
		})
		for id, o := range due {
			used, at, err := c.o.Groups.CPU(o.group)
			c.mu.Lock()
			now := c.objects[id]
			switch {
			case now == nil:
			case errdefs.IsNotFound(err):
				now.group, now.cpu = "", rate{}
			case err == nil:
				now.cpu.add(point{at: at, used: used})
			}
			c.mu.Unlock()
		}
		if !more {
			return
		}
	}
}

// measure walks the writable layers of what was asked about, one after the other and slowly, until nobody asks.
func (c *Collector) measure() {
	pause := min(time.Second, c.o.Times.Measure/4)
	for sleep(c.quit, pause) == nil {
		due, more := c.due(&c.walking, func(o *object, now time.Time) bool { return o.dir != "" && !now.Before(o.next) })
		for id, o := range due {
			c.measureOne(id, o.dir)
			if c.quit.Err() != nil {
				return
			}
		}
		if !more {
			return
		}
	}
}

func (c *Collector) measureOne(id, dir string) {
	begin := time.Now()
	bytes, inodes, err := walk(c.quit, dir, -1, true)
	took := time.Since(begin)
	if err == nil {
		c.measured(id, bytes, inodes, took)
		return
	}
	if errors.Is(err, context.Canceled) {
		return
	}
	if !errors.Is(err, fs.ErrNotExist) {
		c.o.Log.Warn("a writable layer could not be measured; its last size counts", "container", id, "error", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if o := c.objects[id]; o != nil {
		o.next = time.Now().Add(max(c.o.Times.Measure, duty*took))
	}
}

// due forgets what nobody asks about, and returns copies of what is due. more is false, and *running too, when nothing is
// left: the goroutine ends then, and the next question begins another.
func (c *Collector) due(running *bool, is func(*object, time.Time) bool) (due map[string]object, more bool) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	due = map[string]object{}
	for id, o := range c.objects {
		switch {
		case now.Sub(o.asked) > c.o.Times.Interest:
			delete(c.objects, id)
		case is(o, now):
			due[id] = *o
		}
	}
	*running = len(c.objects) > 0
	return due, *running
}
