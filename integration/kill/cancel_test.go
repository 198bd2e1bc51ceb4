package kill

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/integration/registrytest"
)

// verbs are all calls that change something, in the order of a life.
var verbs = []string{"pull", "run", "create", "start", "exec", "reopen", "stop", "rm", "stopp", "rmp", "rmi"}

// do makes one call. The id that it makes is returned.
func (c *client) do(ctx context.Context, verb string) (id string, err error) {
	image, pod := &v1.ImageSpec{Image: c.own}, c.podConfig(c.name)
	switch verb {
	case "pull":
		a, e := c.images.PullImage(ctx, &v1.PullImageRequest{Image: image})
		id, err = a.GetImageRef(), e
	case "run":
		a, e := c.cri.RunPodSandbox(ctx, &v1.RunPodSandboxRequest{Config: pod})
		id, err = a.GetPodSandboxId(), e
	case "create":
		a, e := c.cri.CreateContainer(ctx, &v1.CreateContainerRequest{PodSandboxId: c.sid, Config: c.containerConfig(c.name, waiter), SandboxConfig: pod})
		id, err = a.GetContainerId(), e
	case "start":
		_, err = c.cri.StartContainer(ctx, &v1.StartContainerRequest{ContainerId: c.cid})
	case "exec":
		_, err = c.cri.ExecSync(ctx, &v1.ExecSyncRequest{ContainerId: c.cid, Cmd: []string{"/bin/true"}, Timeout: 20})
	case "reopen":
		_, err = c.cri.ReopenContainerLog(ctx, &v1.ReopenContainerLogRequest{ContainerId: c.cid})
	case "stop":
		_, err = c.cri.StopContainer(ctx, &v1.StopContainerRequest{ContainerId: c.cid, Timeout: 10})
	case "rm":
		_, err = c.cri.RemoveContainer(ctx, &v1.RemoveContainerRequest{ContainerId: c.cid})
	case "stopp":
		_, err = c.cri.StopPodSandbox(ctx, &v1.StopPodSandboxRequest{PodSandboxId: c.sid})
	case "rmp":
		_, err = c.cri.RemovePodSandbox(ctx, &v1.RemovePodSandboxRequest{PodSandboxId: c.sid})
	case "rmi":
		_, err = c.images.RemoveImage(ctx, &v1.RemoveImageRequest{Image: image})
	}
	return id, err
}

// took remembers an id.
func (c *client) took(verb, id string) {
	switch verb {
	case "run":
		c.sid = id
	case "create":
		c.cid = id
	}
}

// raceWorld has a daemon under the race detector, after one whole life.
func raceWorld(t *testing.T) (*world, []string) {
	t.Helper()
	if err := raced(); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	w.program = "daemon.race"
	w.start("")
	c := w.newCycle()
	if c.run(); c.err != nil {
		t.Fatalf("%s: %v", c.failed, c.err)
	}
	return w, w.baseline()
}

// endRace ends the daemon and looks at what the race detector found.
func (w *world) endRace() {
	w.stop()
	reports, _ := filepath.Glob(w.dir + "/race*")
	for _, r := range reports {
		b, _ := os.ReadFile(r)
		w.Errorf("race detector: %.6000s", b)
	}
}

func (w *world) ownImage(name string) string {
	w.registry.MustPush(w, name, registrytest.Image{Layers: []registrytest.Layer{
		{Files: []registrytest.File{{Name: "own", Mode: 0o644, Body: []byte(name)}}}}})
	return w.registry.Ref(name)
}

// TestCancelledCalls gives each mutating call up after a random time, and repeats it: once is done what was asked, and
// nothing is left.
func TestCancelledCalls(t *testing.T) {
	rounds := 200
	if long {
		rounds = 2000
	}
	w, before := raceWorld(t)
	began := time.Now()
	var mu sync.Mutex
	cut := map[string]int{}
	queue := make(chan int)
	var clients sync.WaitGroup
	for i := range 6 {
		own := w.ownImage(fmt.Sprintf("own%d:1", i))
		clients.Go(func() {
			for n := range queue {
				c := &client{world: w, name: fmt.Sprintf("cancel%d", n), own: own}
				for _, verb := range verbs {
					if c.cancelled(verb) {
						mu.Lock()
						cut[verb]++
						mu.Unlock()
					}
				}
			}
		})
	}
	for n := range rounds {
		queue <- n
	}
	close(queue)
	clients.Wait()
	ctx, cancel := limited()
	defer cancel()
	pods, err := w.cri.ListPodSandbox(ctx, &v1.ListPodSandboxRequest{})
	if err != nil || len(pods.Items) != 0 {
		t.Errorf("left: %v, %v", pods, err)
	}
	w.removeAll("at the end")
	w.settled("at the end", before)
	w.endRace()
	t.Logf("%d times each call in %v; given up before their answer: %v", rounds, time.Since(began).Round(time.Second), cut)
}

// cancelled makes a call that is given up, and again until it is done. It tells whether the first was given up in time.
func (c *client) cancelled(verb string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rand.IntN(40_000))*time.Microsecond)
	first, err := c.do(ctx, verb)
	cancel()
	cut := status.Code(err) == codes.DeadlineExceeded || status.Code(err) == codes.Canceled
	if err != nil && !cut {
		c.Errorf("%s: %s, given up: %v", c.name, verb, err)
	}
	whole, done := limited()
	defer done()
	id, err := c.do(whole, verb)
	switch {
	case verb == "start" && status.Code(err) == codes.FailedPrecondition: // it runs, or its start was given up
	case err != nil:
		c.Errorf("%s: %s: %v", c.name, verb, err)
	case first != "" && first != id:
		c.Errorf("%s: %s made %s and then %s", c.name, verb, first, id)
	}
	c.took(verb, id)
	switch verb {
	case "start":
		c.afterStart(whole)
	case "run":
		pods, err := c.cri.ListPodSandbox(whole, &v1.ListPodSandboxRequest{})
		n := 0
		for _, p := range pods.GetItems() {
			if p.Metadata.Name == c.name {
				n++
			}
		}
		if err != nil || n != 1 {
			c.Errorf("%s: there are %d, %v", c.name, n, err)
		}
	}
	return cut
}

// afterStart judges a start that was given up, and brings a container up for the calls that come.
func (c *client) afterStart(ctx context.Context) {
	s := c.container()
	if s.GetState() == v1.ContainerState_CONTAINER_RUNNING {
		return
	}
	if s.GetReason() != "StartError" || s.GetExitCode() != 128 {
		c.Errorf("%s: after its start: %v", c.name, s)
	}
	for _, verb := range []string{"rm", "create", "start"} {
		id, err := c.do(ctx, verb)
		if err != nil {
			c.Errorf("%s: %s, for another start: %v", c.name, verb, err)
		}
		c.took(verb, id)
	}
}

// TestDuplicatedCalls makes each mutating call a hundred times at once: it is done once, and all get the same answer.
func TestDuplicatedCalls(t *testing.T) {
	const callers = 100
	rounds := 2
	if long {
		rounds = 20
	}
	w, before := raceWorld(t)
	own := w.ownImage("own:1")
	for n := range rounds {
		c := &client{world: w, name: fmt.Sprintf("twice%d", n), own: own}
		for _, verb := range verbs {
			calls := callers
			if verb == "exec" {
				calls = 20 // each is a process of its own
			}
			ids, oks := c.together(verb, calls)
			if len(ids) > 1 || verb == "start" && oks == 0 {
				t.Errorf("%s: %d done, ids %v", verb, oks, ids)
			}
			for id := range ids {
				c.took(verb, id)
			}
		}
	}
	w.removeAll("at the end")
	w.settled("at the end", before)
	w.endRace()
}

// together makes the call that often at once.
func (c *client) together(verb string, callers int) (ids map[string]bool, oks int) {
	var all sync.WaitGroup
	var mu sync.Mutex
	ids = map[string]bool{}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for range callers {
		all.Go(func() {
			id, err := c.do(ctx, verb)
			mu.Lock()
			defer mu.Unlock()
			late := verb == "start" && status.Code(err) == codes.FailedPrecondition // it runs already
			switch {
			case err == nil:
				oks++
				ids[id] = true
			case !late:
				c.Errorf("%s at once: %v", verb, err)
			}
		})
	}
	all.Wait()
	return ids, oks
}
