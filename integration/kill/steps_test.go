package kill

import (
	"bufio"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/runtimed/runtimed/integration/killmain/plan"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

// trial is a plan for the daemon or the shim, and what it is to cause.
type trial struct {
	plan  string
	shim  bool   // it is the shim's plan
	dies  bool   // the daemon is to die of it
	again string // the plan of a second daemon, which is to die while it recovers
}

func (tr trial) String() string {
	s := strings.ReplaceAll(tr.plan, "\n", ", ")
	if tr.shim {
		s = "creator: " + s
	}
	if tr.again != "" {
		s += ", and in the recovery " + tr.again
	}
	return s
}

// record runs one life under each plan and returns the points that were seen, in order.
func record(t *testing.T, w *world, daemonPlan, shimPlan string) []plan.Point {
	t.Helper()
	events := w.dir + "/events"
	os.Remove(events)
	w.shimPlan("events " + events + "\n" + shimPlan)
	defer w.shimPlan("")
	w.start("events " + events + "\n" + daemonPlan)
	c := w.newCycle()
	c.run()
	if (daemonPlan == "" && shimPlan == "") != (c.err == nil) {
		t.Fatalf("with plans %q and %q, %s: %v", daemonPlan, shimPlan, c.failed, c.err)
	}
	w.removeAll("record")
	w.stop()
	return readEvents(t, events)
}

func readEvents(t *testing.T, file string) []plan.Point {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var points []plan.Point
	for s := bufio.NewScanner(f); s.Scan(); {
		name, _, _ := strings.Cut(s.Text(), "\t")
		p, err := plan.ParsePoint(name)
		if err != nil {
			t.Fatal(err)
		}
		points = append(points, p)
	}
	return points
}

func (w *world) shimPlan(text string) {
	if err := os.WriteFile(w.dir+"/libexec/shim.plan", []byte(text), 0o644); err != nil {
		w.Fatal(err)
	}
}

// kept are the points that are tried: the first time of each step and phase, or each time.
func kept(points []plan.Point, phases ...step.Phase) []plan.Point {
	var out []plan.Point
	for _, p := range points {
		if slices.Contains(phases, p.Phase) && (p.Nth == 1 || long) && !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// listSteps prints every step of every flow, and fails for one that showed neither a do nor an undo.
func listSteps(t *testing.T, points []plan.Point) {
	t.Helper()
	type name struct{ flow, step string }
	var order []name
	seen := map[name][]string{}
	for _, p := range points {
		if p.Phase == step.Failed {
			continue // it ends a do or an undo, and is neither
		}
		n := name{p.Flow, p.Step}
		if seen[n] == nil {
			order = append(order, n)
		}
		if !slices.Contains(seen[n], string(p.Phase)) {
			seen[n] = append(seen[n], string(p.Phase))
		}
	}
	for _, n := range order {
		t.Logf("%-10s %-14s %s", n.flow, n.step, strings.Join(seen[n], " "))
		if len(seen[n]) < 2 || !slices.Contains(seen[n], "do") && !slices.Contains(seen[n], "undo") {
			if n != (name{"creator", "become"}) { // the process is another program then
				t.Errorf("step %s of %s shows only %v", n.step, n.flow, seen[n])
			}
		}
	}
}

func of(points []plan.Point, flow string) []plan.Point {
	return slices.DeleteFunc(slices.Clone(points), func(p plan.Point) bool { return p.Flow != flow })
}

// trials are all moments to die or to fail at.
func trials(t *testing.T) []trial {
	w := newWorld(t)
	clean := record(t, w, "", "")
	const failPull, failCreator, failRun = "fail pull/commit/do/1", "fail creator/become/do/1", "fail sandbox/ready/do/1"
	pullUndo := of(record(t, w, failPull, ""), "pull")
	creatorUndo := of(record(t, w, "", failCreator), "creator")
	listSteps(t, slices.Concat(clean, pullUndo, creatorUndo))

	ups, downs := []step.Phase{step.Done}, []step.Phase{step.Undoing}
	if long {
		ups, downs = append(ups, step.Doing), append(downs, step.Undone)
	}
	var out []trial
	daemon := slices.DeleteFunc(slices.Clone(clean), func(p plan.Point) bool { return p.Flow == "creator" })
	for _, p := range kept(daemon, slices.Concat(ups, downs)...) {
		out = append(out, trial{plan: "kill " + p.String(), dies: true})
		if p.Phase == step.Undoing { // in the middle of it
			out = append(out, trial{plan: "kill " + p.String() + " 200us", dies: true})
		}
	}
	for _, p := range kept(daemon, step.Doing) {
		if p.Nth == 1 {
			out = append(out, trial{plan: "fail " + p.String()})
		}
		if long {
			out = append(out, trial{plan: "kill " + p.String() + " 300us", dies: true})
		}
	}
	for _, p := range kept(pullUndo, downs...) {
		out = append(out, trial{plan: failPull + "\nkill " + p.String(), dies: true})
	}
	for _, p := range kept(of(record(t, w, failRun, ""), "sandbox"), downs...) {
		if p.Nth == 1 {
			out = append(out, trial{plan: failRun + "\nkill " + p.String(), dies: true})
		}
	}
	for _, p := range inRecovery(t, w, almostReady) {
		out = append(out, trial{plan: almostReady, dies: true, again: "kill " + p.String()})
	}
	for _, p := range kept(of(clean, "creator"), step.Doing, step.Done) {
		out = append(out, trial{plan: "kill " + p.String(), shim: true})
		if p.Phase == step.Doing {
			out = append(out, trial{plan: "fail " + p.String(), shim: true})
		}
	}
	for _, p := range kept(creatorUndo, downs...) {
		out = append(out, trial{plan: failCreator + "\nkill " + p.String(), shim: true})
	}
	return out
}

// almostReady dies when all of a sandbox is there but the word that it is ready.
const almostReady = "kill sandbox/ready/do/1"

// inRecovery are the points of the recovery behind a death.
func inRecovery(t *testing.T, w *world, death string) []plan.Point {
	t.Helper()
	w.start(death)
	w.newCycle().run()
	if !w.dies(3 * time.Second) {
		t.Fatalf("%s: the daemon did not die", death)
	}
	events := w.dir + "/events"
	os.Remove(events)
	w.start("events " + events)
	w.stop()
	points := kept(readEvents(t, events), step.Undoing)
	if len(points) < 10 {
		t.Fatalf("the recovery undid only %v", points)
	}
	return points
}

// TestEveryStep kills the daemon and the creator behind every do and inside every undo, and makes every do fail.
func TestEveryStep(t *testing.T) {
	began := time.Now()
	all := slices.DeleteFunc(trials(t), func(tr trial) bool { return !strings.Contains(tr.String(), os.Getenv("RUNTIMED_TEST_ONLY")) })
	queue := make(chan trial)
	var workers sync.WaitGroup
	for range 3 {
		w := newWorld(t)
		w.start("")
		c := w.newCycle()
		if c.run(); c.err != nil {
			t.Fatalf("%s: %v", c.failed, c.err)
		}
		before := w.baseline()
		w.stop()
		workers.Go(func() {
			defer func() { // where this world is of no use any more
				for range queue {
				}
			}()
			for tr := range queue {
				w.try(tr, before)
			}
		})
	}
	for _, tr := range all {
		queue <- tr
	}
	close(queue)
	workers.Wait()
	t.Logf("%d moments in %v", len(all), time.Since(began).Round(time.Second))
}

// try runs one life under a plan, brings the daemon back and judges.
func (w *world) try(tr trial, before []string) {
	name := tr.String()
	if tr.shim {
		w.shimPlan(tr.plan)
		w.start("")
	} else {
		w.start(tr.plan)
	}
	c := w.newCycle()
	c.run()
	if tr.dies && !w.dies(3*time.Second) && !strings.HasSuffix(tr.plan, "us") {
		w.Errorf("%s: the daemon did not die; %s: %v", name, c.failed, c.err)
	}
	if !tr.dies && w.dead() {
		w.Errorf("%s: the daemon died; %s: %v", name, c.failed, c.err)
	}
	if tr.shim {
		w.shimPlan("")
		if c.failed != "start" && !strings.Contains(tr.plan, "become") {
			w.Errorf("%s: start: %q %v", name, c.failed, c.err)
		}
	}
	if !w.dead() {
		w.truth(name + ": before the restart")
		w.kill()
	}
	if tr.again != "" {
		w.start(tr.again)
		if !w.dies(3 * time.Second) {
			w.Errorf("%s: the daemon did not die in its recovery", name)
			w.kill()
		}
	}
	if took := w.start(""); took > 5*time.Second {
		w.Errorf("%s: the daemon served after %v", name, took)
	}
	w.truth(name)
	w.again(name, c)
	w.removeAll(name)
	w.mustPull()
	w.settled(name, before)
	w.stop()
}

// again repeats the call that failed: its name is free, or the same object comes back, and the way goes on.
func (w *world) again(name string, c *cycle) {
	if c.failed == "" {
		return
	}
	known := c.sid
	err := c.call(c.failed)
	switch {
	case c.failed == "start" && status.Code(err) == codes.FailedPrecondition: // it runs, or its start was interrupted
	case c.failed == "runp" && known != "" && c.sid != known:
		w.Errorf("%s: %s again: another sandbox", name, c.failed)
	case err != nil:
		w.Errorf("%s: %s again: %v", name, c.failed, err)
	}
	w.truth(name + ": after the second " + c.failed)
	if c.failed == "create" {
		first := c.cid
		if err := c.call("create"); err != nil || c.cid != first {
			w.Errorf("%s: create a third time: %s is not %s, %v", name, c.cid, first, err)
		}
	}
}
