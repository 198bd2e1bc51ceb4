package kill

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// many starts n pods with one container each.
func (w *world) many(n int) []*client {
	all := make([]*client, n)
	queue := make(chan int)
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for i := range queue {
				all[i] = &client{world: w, name: fmt.Sprintf("many%d", i)}
				all[i].begin(waiter, 7)
			}
		})
	}
	for i := range n {
		queue <- i
	}
	close(queue)
	workers.Wait()
	return all
}

func (w *world) running() int {
	ctx, cancel := limited()
	defer cancel()
	list, err := w.cri.ListContainers(ctx, &v1.ListContainersRequest{
		Filter: &v1.ContainerFilter{State: &v1.ContainerStateValue{State: v1.ContainerState_CONTAINER_RUNNING}}})
	if err != nil {
		w.Errorf("ListContainers: %v", err)
	}
	return len(list.GetContainers())
}

// TestServingAgain kills the daemon of a hundred running containers.
func TestServingAgain(t *testing.T) {
	const containers, rounds = 100, 5
	w := newWorld(t)
	w.start("")
	first := w.newCycle()
	if first.run(); first.err != nil {
		t.Fatalf("%s: %v", first.failed, first.err)
	}
	before := w.baseline()
	w.many(containers)
	var took []time.Duration
	for range rounds {
		w.kill()
		took = append(took, w.start(""))
		if n := w.running(); n != containers {
			t.Errorf("%d of %d run", n, containers)
		}
	}
	w.truth("at the end")
	slices.Sort(took)
	t.Logf("serving again with %d running containers, from the program's start: p50 %v, max %v", containers, took[rounds/2], took[rounds-1])
	if took[rounds-1] > 5*time.Second {
		t.Errorf("that took %v", took)
	}
	w.removeAll("at the end")
	w.settled("at the end", before)
	w.stop()
}

func sleepers(all []proc) int {
	n := 0
	for _, p := range all {
		if p.command == "sleep 1000" {
			n++
		}
	}
	return n
}

// TestSIGTERM leaves every container running.
func TestSIGTERM(t *testing.T) {
	w := newWorld(t)
	w.start("")
	(&cycle{world: w}).call("pull")
	w.many(3)
	before := w.processes()
	for sleepers(before) < 3 { // each script has begun its program
		time.Sleep(10 * time.Millisecond)
		before = w.processes()
	}
	began := time.Now()
	w.stop()
	took := time.Since(began)
	if code := w.daemon.ProcessState.ExitCode(); code != 0 {
		t.Errorf("the daemon ended with %d", code)
	}
	if now := w.processes(); !slices.Equal(before, now) {
		t.Errorf("before: %v\nafter: %v", before, now)
	}
	w.start("")
	if n := w.running(); n != 3 {
		t.Errorf("%d of 3 run", n)
	}
	w.truth("after SIGTERM")
	w.removeAll("at the end")
	w.stop()
	t.Logf("SIGTERM to the end: %v", took)
}
