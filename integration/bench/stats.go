package main

import (
	"fmt"
	"io"
	"math"
	"slices"
)

// series are the figures of one side, in the order in which they were measured.
type series []float64

// at is the q-th quantile (0 to 1) by linear interpolation; NaN of nothing.
func (s series) at(q float64) float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(s))
	x := q * float64(len(sorted)-1)
	low := int(x)
	if low == len(sorted)-1 {
		return sorted[low]
	}
	return sorted[low] + (x-float64(low))*(sorted[low+1]-sorted[low])
}

func (s series) median() float64 { return s.at(0.5) }

// over is the ratio of each figure to the peer's of the same round.
func (s series) over(peer series) series {
	var r series
	for i := range min(len(s), len(peer)) {
		r = append(r, s[i]/peer[i])
	}
	return r
}

func (s series) String() string {
	return fmt.Sprintf("%.4g (%.4g–%.4g, n=%d)", s.median(), s.at(0.1), s.at(0.9), len(s))
}

// report prints one line for each figure, and remembers the gates.
type report struct {
	out   io.Writer
	below int
}

func (r *report) section(title string) { fmt.Fprintf(r.out, "\n%s\n", title) }

func (r *report) figure(name, unit string, s series) {
	fmt.Fprintf(r.out, "  %-58s %s %s\n", name, s, unit)
}

// Directions of a gate.
const (
	atMost  = "≤"
	atLeast = "≥"
)

// gate compares the median of s with the limit.
func (r *report) gate(name string, s series, direction string, limit float64) {
	verdict := "PASS"
	if !passes(s.median(), direction, limit) {
		verdict = "below gate"
		r.below++
	}
	fmt.Fprintf(r.out, "  %-58s %s  gate %s %g: %s\n", name, s, direction, limit, verdict)
}

func passes(value float64, direction string, limit float64) bool {
	if direction == atMost {
		return value <= limit
	}
	return value >= limit // false of NaN, as above
}
