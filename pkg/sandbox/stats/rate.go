package stats

import "time"

// minWindow is the shortest time over which processor time is averaged: the kernel counts it in steps.
const minWindow = time.Second

// point is one reading of a cumulative counter.
type point struct {
	at   time.Time
	used time.Duration
}

// rate averages a counter over the time since an earlier reading. The zero value has seen none.
type rate struct{ base, last point }

// add takes a reading and returns the processor time per second, in ns, over a window of at least minWindow. It is false
// where there is no such window yet. A counter that went back, or a clock that did, begins anew.
func (r *rate) add(p point) (nano uint64, known bool) {
	switch {
	case r.last.at.IsZero() || p.used < r.last.used || p.at.Before(r.last.at):
		*r = rate{last: p}
		return 0, false
	case p.at.Sub(r.last.at) >= minWindow:
		r.base, r.last = r.last, p
	case r.base.at.IsZero():
		return 0, false
	}
	return perSecond(r.base, p), true
}

// perSecond is the average between two readings.
func perSecond(a, b point) uint64 {
	window := b.at.Sub(a.at)
	if window <= 0 || b.used <= a.used {
		return 0
	}
	return uint64(float64(b.used-a.used) / window.Seconds())
}
