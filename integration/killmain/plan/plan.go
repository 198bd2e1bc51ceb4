// Package plan says where a program under test is to fail, and where it is to die.
//
// A plan is a text, one line for each deed:
//
//	events PATH                          append each event to the file
//	kill FLOW/STEP/PHASE/NTH [DELAY]     SIGKILL the own process there, or that much later
//	fail FLOW/STEP/do/NTH                the step fails in place of being done
//
// NTH counts from 1; 0 is every time. The counter is the process's. A step's name may hold spaces.
package plan

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

// Point is a moment in a flow.
type Point struct {
	Flow, Step string
	Phase      step.Phase
	Nth        int // from 1; 0 is every time
}

func (p Point) String() string {
	return fmt.Sprintf("%s/%s/%s/%d", p.Flow, p.Step, p.Phase, p.Nth)
}

// ParsePoint is the inverse of Point.String.
func ParsePoint(s string) (Point, error) {
	f := strings.Split(s, "/")
	if len(f) != 4 {
		return Point{}, fmt.Errorf("%q is not FLOW/STEP/PHASE/NTH", s)
	}
	nth, err := strconv.Atoi(f[3])
	if err != nil || nth < 0 {
		return Point{}, fmt.Errorf("%q: %q is not a count", s, f[3])
	}
	p := Point{Flow: f[0], Step: f[1], Phase: step.Phase(f[2]), Nth: nth}
	switch p.Phase {
	case step.Doing, step.Done, step.Undoing, step.Undone, step.Failed:
		return p, nil
	}
	return Point{}, fmt.Errorf("%q: %q is not a phase", s, f[2])
}

// ErrPlanned is what a step fails with.
var ErrPlanned = errors.New("this step fails because the test's plan says so")

// Plan is a parsed plan. The zero value does nothing.
type Plan struct {
	Events string
	Kills  []Kill
	Fails  []Point

	mu   sync.Mutex
	seen map[Point]int // by the point with Nth 0
}

// Kill is where the process is to die.
type Kill struct {
	At    Point
	Delay time.Duration
}

// Parse reads a plan.
func Parse(text string) (*Plan, error) {
	p := &Plan{seen: map[Point]int{}}
	for line := range strings.Lines(text) {
		if err := p.add(strings.TrimSpace(line)); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *Plan) add(line string) error {
	verb, rest, _ := strings.Cut(line, " ")
	switch verb {
	case "":
		return nil
	case "events":
		p.Events = rest
		return nil
	case "fail":
		at, err := ParsePoint(rest)
		p.Fails = append(p.Fails, at)
		return err
	case "kill":
		// The delay stands behind the point's last slash: a step's name may hold spaces.
		last := strings.LastIndex(rest, "/")
		nth, delay, delayed := strings.Cut(rest[last+1:], " ")
		at, err := ParsePoint(rest[:last+1] + nth)
		k := Kill{At: at}
		if err == nil && delayed {
			k.Delay, err = time.ParseDuration(delay)
		}
		p.Kills = append(p.Kills, k)
		return err
	}
	return fmt.Errorf("%q is not a plan's line", line)
}

// Load reads a plan from a file; one that is not there does nothing.
func Load(path string) (*Plan, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return Parse("")
	}
	if err != nil {
		return nil, err
	}
	return Parse(string(b))
}

// Observe is the observer that carries the plan out.
func (p *Plan) Observe(e step.Event) error {
	at := Point{Flow: e.Flow, Step: e.Step, Phase: e.Phase}
	p.mu.Lock()
	p.seen[at]++
	nth := p.seen[at]
	if p.Events != "" {
		write(p.Events, fmt.Sprintf("%s/%s/%s/%d\t%s\n", e.Flow, e.Step, e.Phase, nth, e.ID))
	}
	p.mu.Unlock()
	for _, k := range p.Kills {
		if is(k.At, at, nth) {
			k.do()
		}
	}
	for _, f := range p.Fails {
		if is(f, at, nth) {
			return ErrPlanned
		}
	}
	return nil
}

func is(wanted, at Point, nth int) bool {
	if wanted.Nth != 0 && wanted.Nth != nth {
		return false
	}
	wanted.Nth = 0
	return wanted == at
}

// do does not return without a delay.
func (k Kill) do() {
	if k.Delay > 0 {
		time.AfterFunc(k.Delay, die)
		return
	}
	die()
	select {} // the signal takes its moment
}

func die() { syscall.Kill(os.Getpid(), syscall.SIGKILL) }

// write opens the file anew each time: the process may be killed, and may have covered its mounts.
func write(path, line string) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return
	}
	defer f.Close()
	f.WriteString(line)
}
