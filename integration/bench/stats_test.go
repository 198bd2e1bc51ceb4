package main

import (
	"math"
	"strings"
	"testing"
)

func TestQuantiles(t *testing.T) {
	for _, c := range []struct {
		of   series
		q    float64
		want float64
	}{
		{series{3}, 0.5, 3},
		{series{3}, 0.9, 3},
		{series{4, 1, 3, 2}, 0.5, 2.5},
		{series{5, 1, 3, 2, 4}, 0.5, 3},
		{series{5, 1, 3, 2, 4}, 0, 1},
		{series{5, 1, 3, 2, 4}, 1, 5},
		{series{0, 10}, 0.1, 1},
		{series{0, 10}, 0.9, 9},
	} {
		if got := c.of.at(c.q); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%v at %v is %v, not %v", []float64(c.of), c.q, got, c.want)
		}
	}
	if !math.IsNaN(series(nil).median()) {
		t.Error("the median of nothing is a number")
	}
	s := series{2, 1}
	s.median()
	if s[0] != 2 {
		t.Error("a quantile reorders the series, and so breaks the pairs")
	}
}

func TestRatiosAreOfPairs(t *testing.T) {
	r := series{1, 9, 4}.over(series{2, 3})
	if len(r) != 2 || r[0] != 0.5 || r[1] != 3 {
		t.Errorf("the ratios are %v", []float64(r))
	}
}

func TestGates(t *testing.T) {
	for _, c := range []struct {
		value     float64
		direction string
		want      bool
	}{
		{0.6, atMost, true}, {0.61, atMost, false}, {0.1, atMost, true},
		{0.6, atLeast, true}, {0.59, atLeast, false}, {2, atLeast, true},
		{math.NaN(), atMost, false}, {math.NaN(), atLeast, false},
	} {
		if got := passes(c.value, c.direction, 0.6); got != c.want {
			t.Errorf("%v %s 0.6 is %v", c.value, c.direction, got)
		}
	}
	var out strings.Builder
	r := report{out: &out}
	r.gate("first", series{1}, atMost, 2)
	r.gate("second", series{3}, atMost, 2)
	if r.below != 1 || strings.Count(out.String(), "PASS") != 1 || strings.Count(out.String(), "below gate") != 1 {
		t.Errorf("%d below: %s", r.below, &out)
	}
}
