package stats

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Groups reads control groups. A group that is not there is errdefs.ErrNotFound.
type Groups interface {
	Use(path string, detail bool) (spec.GroupUse, error)
	CPU(path string) (used time.Duration, at time.Time, err error)
	Processes(path string) ([]int, error)
}

// Times of a Collector; zero values take the defaults.
type Times struct {
	// Interest is how long something is kept fresh after somebody asked for it. Default 2 min.
	Interest time.Duration
	// Sample is the longest time between two readings of processor time meanwhile. Default 10 s.
	Sample time.Duration
	// Measure is the shortest time between two walks of one writable layer. Default 1 min.
	Measure time.Duration
}

// Options of a Collector. Groups is needed.
type Options struct {
	Groups Groups
	// Device names the device that holds the writable layers, for metrics; see Device.
	Device string
	Log    *slog.Logger
	Times  Times
}

// Collector reads, and keeps what takes time to find out. Make one with New; Close ends its goroutines. It may be used by
// any goroutine.
type Collector struct {
	o    Options
	quit context.Context
	end  context.CancelFunc
	work sync.WaitGroup

	mu       sync.Mutex
	objects  map[string]*object
	sampling bool
	walking  bool
}

// object is what is remembered of a container or a sandbox.
type object struct {
	group, dir string
	asked      time.Time
	cpu        rate
	disk       *spec.DiskUse
	looked     bool      // a quick look was had
	next       time.Time // no walk before
}

// quick is how many entries the first look at a writable layer may take, while its caller waits: some 0.2 ms.
const quick = 128

// young is how old a container may be for its first answer to average over its whole life.
const young = time.Minute

// New makes a Collector. Nothing runs before the first question.
func New(o Options) *Collector {
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	o.Times.Interest = cmp.Or(o.Times.Interest, 2*time.Minute)
	o.Times.Sample = cmp.Or(o.Times.Sample, 10*time.Second)
	o.Times.Measure = cmp.Or(o.Times.Measure, time.Minute)
	quit, end := context.WithCancel(context.Background())
	return &Collector{o: o, quit: quit, end: end, objects: map[string]*object{}}
}

// Close ends the goroutines and waits for them.
func (c *Collector) Close() {
	c.mu.Lock() // none begins between these two
	c.end()
	c.mu.Unlock()
	c.work.Wait()
}

// Group reads the group of the container or sandbox with that id, and its processor time per second since an earlier
// reading; born, where it is not zero, is when it began. The rate is nil where there is no earlier reading.
func (c *Collector) Group(id, path string, born time.Time, detail bool) (spec.GroupUse, *uint64, error) {
	use, err := c.o.Groups.Use(path, detail)
	if err != nil {
		return use, nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.object(id)
	o.group = path
	now := point{at: use.At, used: use.CPU.Total}
	nano, known := o.cpu.add(now)
	if !known && !born.IsZero() {
		if age := use.At.Sub(born); age > 0 && age < young {
			nano, known = perSecond(point{at: born}, now), true
		}
	}
	if !known {
		return use, nil, nil
	}
	return use, &nano, nil
}

// Disk is the size of the container's writable layer, which is dir, as it was measured last, or nil. Only the first
// question for a small one waits for it to be measured.
func (c *Collector) Disk(id, dir string) *spec.DiskUse {
	c.mu.Lock()
	o := c.object(id)
	o.dir = dir
	first := !o.looked
	o.looked = true
	disk := o.disk
	c.mu.Unlock()
	if !first {
		return disk
	}
	bytes, inodes, err := walk(c.quit, dir, quick, false)
	if err != nil {
		return nil // the walking goroutine will find out, or why not
	}
	return c.measured(id, bytes, inodes, 0)
}

// measured records a walk that took that long.
func (c *Collector) measured(id string, bytes, inodes uint64, took time.Duration) *spec.DiskUse {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	d := &spec.DiskUse{At: now, Bytes: bytes, Inodes: inodes}
	if o := c.objects[id]; o != nil {
		o.disk, o.next = d, now.Add(max(c.o.Times.Measure, duty*took))
	}
	return d
}

// object finds or makes what is remembered, and sees to it that it is kept fresh. It is called with the lock held.
func (c *Collector) object(id string) *object {
	o := c.objects[id]
	if o == nil {
		o = &object{}
		c.objects[id] = o
	}
	o.asked = time.Now()
	if c.quit.Err() == nil {
		if !c.sampling {
			c.sampling = true
			c.work.Go(c.sample)
		}
		if !c.walking {
			c.walking = true
			c.work.Go(c.measure)
		}
	}
	return o
}
