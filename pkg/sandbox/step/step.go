// Package step runs a flow that is a visible list of named steps, and takes it down again by the steps' undos.
//
// It owns the order and the reporting. It never decides whether to undo: Run stops at the first error and leaves that
// to its caller, so that errors, removal and recovery share one Teardown.
package step

import (
	"context"
	"fmt"
	"slices"
)

// Step is one named step of a flow. Do may assume that all earlier steps are done. Undo finds its object from the id
// alone, may run any number of times, before Do or after a half-done Do, and treats "not there" as done. A nil Do or
// Undo does nothing.
type Step struct {
	Name string
	Do   func(ctx context.Context) error
	Undo func(ctx context.Context) error
}

// Phase of an Event.
type Phase string

const (
	Doing   Phase = "do"     // before a Do
	Done    Phase = "done"   // after a Do that succeeded
	Undoing Phase = "undo"   // before an Undo
	Undone  Phase = "undone" // after an Undo that succeeded
	Failed  Phase = "failed" // after a Do or an Undo that failed
)

// Event tells an Observer where a flow is.
type Event struct {
	Flow  string // such as "sandbox", "container", "start", "pull", "creator"
	Step  string
	Phase Phase
	ID    string // of the object
	// Ctx is the step's, for what travels in it, such as a trace.
	Ctx context.Context `json:"-"`
}

// Observer sees every event, synchronously. Tests use it to fail or to kill the process at a point; a nil Observer
// sees nothing. An error that it returns for Doing takes the place of the step's own; at other phases it is ignored.
type Observer func(Event) error

// Flow is a list of steps for one object.
type Flow struct {
	Name    string
	ID      string
	Steps   []Step
	Observe Observer
}

// Error names the step that failed.
type Error struct {
	Step string
	Err  error
}

func (e *Error) Error() string { return e.Step + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Run does the steps in order. It stops before the next step when ctx has ended, and at the first error, which it
// returns as an *Error. It undoes nothing.
func (f Flow) Run(ctx context.Context) error {
	for _, s := range f.Steps {
		if err := context.Cause(ctx); err != nil {
			return &Error{Step: s.Name, Err: err}
		}
		err := f.tell(ctx, s.Name, Doing)
		if err == nil && s.Do != nil {
			err = s.Do(ctx)
		}
		if err != nil {
			f.tell(ctx, s.Name, Failed)
			return &Error{Step: s.Name, Err: err}
		}
		f.tell(ctx, s.Name, Done)
	}
	return nil
}

// Teardown undoes steps in reverse order and stops at the first undo that fails: the steps below it, the record first
// of all, must stay so that the next attempt finds what is left.
func (f Flow) Teardown(ctx context.Context) error {
	for _, s := range slices.Backward(f.Steps) {
		if s.Undo == nil {
			continue
		}
		err := f.tell(ctx, s.Name, Undoing)
		if err == nil {
			err = s.Undo(ctx)
		}
		if err != nil {
			f.tell(ctx, s.Name, Failed)
			return &Error{Step: "undo " + s.Name, Err: err}
		}
		f.tell(ctx, s.Name, Undone)
	}
	return nil
}

func (f Flow) tell(ctx context.Context, name string, p Phase) error {
	if f.Observe == nil {
		return nil
	}
	if err := f.Observe(Event{Flow: f.Name, Step: name, Phase: p, ID: f.ID, Ctx: ctx}); err != nil {
		return fmt.Errorf("%s %s: %w", p, name, err)
	}
	return nil
}
