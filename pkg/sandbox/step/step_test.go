package step

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

var errPlanted = errors.New("planted")

// tape is a flow a, b, c that writes down what is called.
func tape(failDo, failUndo string) (Flow, *[]string) {
	var calls []string
	f := Flow{Name: "f", ID: "1"}
	for _, name := range []string{"a", "b", "c"} {
		f.Steps = append(f.Steps, Step{Name: name,
			Do: func(context.Context) error {
				calls = append(calls, "+"+name)
				if name == failDo {
					return errPlanted
				}
				return nil
			},
			Undo: func(context.Context) error {
				calls = append(calls, "-"+name)
				if name == failUndo {
					return errPlanted
				}
				return nil
			}})
	}
	return f, &calls
}

func TestFlow(t *testing.T) {
	for _, c := range []struct {
		name, failDo, failUndo string
		run, teardown          string
		runErr, teardownErr    string
	}{
		{"whole", "", "", "+a+b+c", "-c-b-a", "", ""},
		{"a step fails", "b", "", "+a+b", "-c-b-a", "b: planted", ""},
		{"an undo fails", "", "b", "+a+b+c", "-c-b", "", "undo b: planted"},
	} {
		f, calls := tape(c.failDo, c.failUndo)
		text := func(err error) string {
			if err == nil {
				return ""
			}
			return err.Error()
		}
		if err := f.Run(t.Context()); text(err) != c.runErr || strings.Join(*calls, "") != c.run {
			t.Errorf("%s: Run: %v, %v", c.name, *calls, err)
		}
		*calls = nil
		// All undos run, however far Run got: each finds its own object or nothing.
		if err := f.Teardown(t.Context()); text(err) != c.teardownErr || strings.Join(*calls, "") != c.teardown {
			t.Errorf("%s: Teardown: %v, %v", c.name, *calls, err)
		}
	}
}

func TestRunStopsWhenItsContextEnds(t *testing.T) {
	f, calls := tape("", "")
	ctx, cancel := context.WithCancelCause(t.Context())
	do := f.Steps[0].Do
	f.Steps[0].Do = func(c context.Context) error { cancel(errPlanted); return do(c) }
	err := f.Run(ctx)
	if e := (*Error)(nil); !errors.As(err, &e) || e.Step != "b" || !errors.Is(err, errPlanted) {
		t.Errorf("got %v, want the context's cause at step b", err)
	}
	if !slices.Equal(*calls, []string{"+a"}) {
		t.Errorf("calls %v: a step that began is finished, and none begins after it", *calls)
	}
}

func TestNilStepsDoNothing(t *testing.T) {
	f := Flow{Steps: []Step{{Name: "a"}}}
	if err := errors.Join(f.Run(t.Context()), f.Teardown(t.Context())); err != nil {
		t.Error(err)
	}
}

func TestObserverSeesAndFails(t *testing.T) {
	f, calls := tape("", "")
	var seen []string
	f.Observe = func(e Event) error {
		seen = append(seen, fmt.Sprintf("%s %s %s %s", e.Flow, e.ID, e.Step, e.Phase))
		if e.Step == "b" && (e.Phase == Doing || e.Phase == Undoing) {
			return errPlanted
		}
		return errPlanted // ignored at phases that only tell, but "a" and "c" fail too
	}
	if err := f.Run(t.Context()); !errors.Is(err, errPlanted) || len(*calls) != 0 {
		t.Errorf("an observer's error takes the place of the step: %v, %v", *calls, err)
	}
	if want := []string{"f 1 a do", "f 1 a failed"}; !slices.Equal(seen, want) {
		t.Errorf("seen %q", seen)
	}
	seen = nil
	f.Observe = func(e Event) error { seen = append(seen, e.Step+" "+string(e.Phase)); return nil }
	if err := errors.Join(f.Run(t.Context()), f.Teardown(t.Context())); err != nil {
		t.Fatal(err)
	}
	want := []string{"a do", "a done", "b do", "b done", "c do", "c done", "c undo", "c undone", "b undo", "b undone", "a undo", "a undone"}
	if !slices.Equal(seen, want) {
		t.Errorf("seen %q", seen)
	}
}
