package plan

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

func TestPlan(t *testing.T) {
	events := filepath.Join(t.TempDir(), "events")
	p, err := Parse("events " + events + "\nkill namespaces/pin ipc/undo/2 3ms\nkill a/b/done/1\n\nfail sandbox/network/do/2\nfail x/y/do/0\n")
	if err != nil {
		t.Fatal(err)
	}
	want := Kill{At: Point{"namespaces", "pin ipc", step.Undoing, 2}, Delay: 3 * time.Millisecond}
	if len(p.Kills) != 2 || p.Kills[0] != want || p.Kills[1].Delay != 0 {
		t.Errorf("kills: %+v", p.Kills)
	}
	network := step.Event{Flow: "sandbox", Step: "network", Phase: step.Doing, ID: "id"}
	if err := p.Observe(network); err != nil {
		t.Errorf("first: %v", err)
	}
	if err := p.Observe(network); !errors.Is(err, ErrPlanned) {
		t.Errorf("second: %v", err)
	}
	for range 3 {
		if err := p.Observe(step.Event{Flow: "x", Step: "y", Phase: step.Doing}); !errors.Is(err, ErrPlanned) {
			t.Errorf("every time: %v", err)
		}
	}
	b, err := os.ReadFile(events)
	if lines := "sandbox/network/do/1\tid\nsandbox/network/do/2\tid\nx/y/do/1\t\n"; err != nil || len(b) < len(lines) || string(b[:len(lines)]) != lines {
		t.Errorf("events: %q, %v", b, err)
	}
	for _, bad := range []string{"kill a/b/c/1", "kill a/b/do/-1", "fail a/b/do", "kill a/b/do/1 soon", "die", "kill"} {
		if _, err := Parse(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if p, err := Load(filepath.Join(t.TempDir(), "none")); err != nil || p.Observe(network) != nil {
		t.Errorf("no file: %v", err)
	}
}
