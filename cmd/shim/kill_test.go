package main

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

func itoa(n int) string { return strconv.Itoa(n) }

// steps are the creator's, as an observer saw them, and those of them that have an undo.
func (p *pod) steps() (all, undos []string) {
	p.t.Helper()
	c := p.faulty(fault{Flow: "creator", Do: "log"}, fault{Flow: "creator", Step: "become", Phase: step.Doing, Do: "fail"})
	wantStartError(p.t, c, "become", "injected")
	b, err := os.ReadFile(filepath.Join(c.dir(), "events"))
	must(p.t, err)
	for _, l := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		name, phase, _ := strings.Cut(l, " ")
		switch step.Phase(phase) {
		case step.Doing:
			all = append(all, name)
		case step.Undoing:
			undos = append(undos, name)
		}
	}
	if len(all) < 10 || all[len(all)-1] != "become" || len(undos) < 5 {
		p.t.Fatalf("steps %v, undos %v", all, undos)
	}
	return all, undos
}

// faulty is a container with volumes and all, that will not start.
func (p *pod) faulty(faults ...fault) *container {
	p.t.Helper()
	c := p.newContainer("sleep", "1000")
	p.volumeLayer(c)
	c.launch.Volumes = []string{"/data"}
	c.write(faults...)
	return c
}

func TestEveryStepFailing(t *testing.T) {
	p := newHost(t).newPod(true)
	all, undos := p.steps()
	t.Logf("steps: %v; with undo: %v", all, undos)
	for _, s := range all {
		wantStartError(t, p.faulty(fault{Flow: "creator", Step: s, Phase: step.Doing, Do: "fail"}), "injected")
	}
}

func TestEveryStepKilled(t *testing.T) {
	p := newHost(t).newPod(true)
	all, undos := p.steps()
	var cases [][]fault
	for _, s := range all {
		cases = append(cases, []fault{{"creator", s, step.Doing, "kill"}})
		if s != "become" { // it has no end of its own: the program is replaced
			cases = append(cases, []fault{{"creator", s, step.Done, "kill"}})
		}
	}
	for _, s := range undos {
		for _, phase := range []step.Phase{step.Undoing, step.Undone} {
			cases = append(cases, []fault{{"creator", "become", step.Doing, "fail"}, {"creator", s, phase, "kill"}})
		}
	}
	for _, faults := range cases {
		last := faults[len(faults)-1]
		c := p.faulty(faults...)
		err := c.start(t.Context())
		var s *spec.StartError
		if !errors.As(err, &s) || !strings.Contains(s.Message, "signal killed") {
			t.Errorf("killed at %s %s: got %v", last.Step, last.Phase, err)
		}
		c.undo()
		wantNothingLeft(t, c)
	}
}
