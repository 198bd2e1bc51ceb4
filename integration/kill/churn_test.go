package kill

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/integration/registrytest"
)

// TestRandomKills kills the daemon at random moments while clients churn and two containers log 100 MB.
func TestRandomKills(t *testing.T) {
	kills := 25
	if long {
		kills = 250
	}
	w := newWorld(t)
	w.start("")
	first := w.newCycle()
	if first.run(); first.err != nil {
		t.Fatalf("%s: %v", first.failed, first.err)
	}
	before := w.baseline()
	var loggers [2]*client
	for i := range loggers {
		loggers[i] = &client{world: w, name: fmt.Sprintf("logger%d", i)}
		loggers[i].begin(logged, 5)
	}
	quit := make(chan struct{})
	var clients sync.WaitGroup
	var lives, broken atomic.Int32
	for i := range 4 {
		own := fmt.Sprintf("own%d:1", i)
		image := registrytest.Image{Layers: []registrytest.Layer{{Files: []registrytest.File{{Name: "own", Mode: 0o644, Body: []byte(own)}}}}}
		w.registry.MustPush(t, own, image)
		clients.Go(func() {
			for n := 0; !closed(quit); n++ {
				c := &client{world: w, name: fmt.Sprintf("client%d-%d", i, n), own: w.registry.Ref(own), quit: quit}
				c.live(n)
				lives.Add(1)
				if c.startBroken {
					broken.Add(1)
				}
			}
		})
	}
	var slowest time.Duration
	for i := range kills {
		time.Sleep(time.Duration(50+rand.IntN(800)) * time.Millisecond)
		w.kill()
		slowest = max(slowest, w.start(""))
		w.truth(fmt.Sprintf("after kill %d", i))
	}
	close(quit)
	clients.Wait()
	for _, l := range loggers {
		l.ends(5)
		l.checkLog(loggedLines)
		l.down()
	}
	w.removeAll("at the end")
	w.settled("at the end", before)
	w.stop()
	t.Logf("%d kills, slowest start %v, %d lives, %d starts broken off, %d bytes logged by each of %d", kills, slowest, lives.Load(), broken.Load(), loggedBytes, len(loggers))
}

func closed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

const (
	loggedCount = 2500
	loggedBytes = loggedCount * (bigLine + 5)
	// logged writes numbered lines of bigLine bytes, for about half a minute.
	logged = `L=$(cat /line); i=10000; while [ $i -lt 12500 ]; do i=$((i+1)); echo "$i$L"; [ $((i%10)) != 0 ] || usleep 90000; done; exit 5`
)

func loggedLines() []string {
	line := strings.Repeat("abcdefghij", bigLine/10)
	var all []string
	for i := range loggedCount {
		all = append(all, fmt.Sprint(10001+i)+line)
	}
	return all
}

// client is one life of a pod, through restarts of the daemon.
type client struct {
	*world
	name, own   string
	sid, cid    string
	quit        chan struct{}
	code        int32
	startBroken bool
}

// must repeats a call until the daemon has answered. A call may be answered by codes that are named.
func (c *client) must(what string, call func(context.Context) error, fine ...codes.Code) codes.Code {
	deadline := time.Now().Add(60 * time.Second)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		err := call(ctx)
		cancel()
		code := status.Code(err)
		if err == nil {
			return code
		}
		for _, f := range fine {
			if code == f {
				return code
			}
		}
		if code != codes.Unavailable || time.Now().After(deadline) {
			c.Errorf("%s: %s: %v", c.name, what, err)
			return code
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// begin brings a container with the script up to its start.
func (c *client) begin(script string, code int32) {
	c.code = code
	pod := c.podConfig(c.name)
	c.must("run", func(ctx context.Context) error {
		a, err := c.cri.RunPodSandbox(ctx, &v1.RunPodSandboxRequest{Config: pod})
		c.sid = a.GetPodSandboxId()
		return err
	})
	c.must("create", func(ctx context.Context) error {
		a, err := c.cri.CreateContainer(ctx, &v1.CreateContainerRequest{PodSandboxId: c.sid, Config: c.containerConfig(c.name, script), SandboxConfig: pod})
		c.cid = a.GetContainerId()
		return err
	})
	tries := 0
	c.must("start", func(ctx context.Context) error {
		tries++
		_, err := c.cri.StartContainer(ctx, &v1.StartContainerRequest{ContainerId: c.cid})
		if tries > 1 && status.Code(err) == codes.FailedPrecondition {
			return nil // a start whose answer was lost: it runs, or has ended
		}
		return err
	})
}

func (c *client) container() *v1.ContainerStatus {
	var s *v1.ContainerStatus
	c.must("status", func(ctx context.Context) error {
		a, err := c.cri.ContainerStatus(ctx, &v1.ContainerStatusRequest{ContainerId: c.cid})
		s = a.GetStatus()
		return err
	})
	return s
}

// ends waits for the end and checks its code, one of those or the container's own.
func (c *client) ends(codes ...int32) {
	for end := time.Now().Add(120 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		s := c.container()
		if s.GetState() != v1.ContainerState_CONTAINER_EXITED {
			if time.Now().After(end) {
				c.Errorf("%s: does not end: %v", c.name, s)
				return
			}
			continue
		}
		if s.Reason == "StartError" && s.ExitCode == 128 && strings.Contains(s.Message, "interrupted") {
			c.startBroken = true
			return
		}
		for _, code := range codes {
			if s.ExitCode == code && s.FinishedAt >= s.StartedAt && s.StartedAt > 0 {
				return
			}
		}
		c.Errorf("%s: ended as %v, not with %v", c.name, s, codes)
		return
	}
}

// checkLog puts the log together and compares it with what was written.
func (c *client) checkLog(want func() []string) {
	b, err := os.ReadFile(fmt.Sprintf("%s/logs/%s/%s.log", c.dir, c.name, c.name))
	if c.startBroken {
		if len(b) > 0 {
			c.Errorf("%s: it never ran, and logged %q", c.name, tail(b, 200))
		}
		return
	}
	if err != nil {
		c.Errorf("%s: %v", c.name, err)
		return
	}
	got, err := reassemble(b)
	if err != nil {
		c.Errorf("%s: log: %v", c.name, err)
	}
	lines := want()
	if len(got) != len(lines) {
		c.Errorf("%s: %d lines logged, %d written", c.name, len(got), len(lines))
	}
	for i := range min(len(got), len(lines)) {
		if got[i] != lines[i] {
			c.Errorf("%s: line %d is %.60q, not %.60q", c.name, i, got[i], lines[i])
			return
		}
	}
}

// reassemble reads a log in the CRI's format.
func reassemble(b []byte) ([]string, error) {
	var lines []string
	var part []byte
	for line := range bytes.Lines(b) {
		f := bytes.SplitN(bytes.TrimSuffix(line, []byte("\n")), []byte(" "), 4)
		if len(f) != 4 || !bytes.HasSuffix(line, []byte("\n")) {
			return lines, fmt.Errorf("no log line: %.80q", line)
		}
		if _, err := time.Parse(time.RFC3339Nano, string(f[0])); err != nil {
			return lines, err
		}
		part = append(part, f[3]...)
		switch string(f[2]) {
		case "F":
			lines = append(lines, string(part))
			part = part[:0]
		case "P":
		default:
			return lines, fmt.Errorf("no tag: %.80q", line)
		}
	}
	if len(part) > 0 {
		return lines, fmt.Errorf("a line without an end: %.80q", part)
	}
	return lines, nil
}

// live is one life: every other one is stopped early, the others end by themselves.
func (c *client) live(n int) {
	image := &v1.ImageSpec{Image: c.own}
	c.must("pull", func(ctx context.Context) error {
		_, err := c.images.PullImage(ctx, &v1.PullImageRequest{Image: image})
		return err
	})
	count, code := 100+rand.IntN(5000), int32(rand.IntN(100))
	if n%2 == 0 {
		c.begin(fmt.Sprintf("seq 1 %d; exit %d", count, code), code)
		c.ends(code)
		c.checkLog(func() []string {
			var all []string
			for i := range count {
				all = append(all, fmt.Sprint(i+1))
			}
			return all
		})
	} else {
		c.begin(waiter, 7)
		c.must("exec", func(ctx context.Context) error {
			_, err := c.cri.ExecSync(ctx, &v1.ExecSyncRequest{ContainerId: c.cid, Cmd: []string{"/bin/true"}, Timeout: 20})
			return err
		}, codes.FailedPrecondition)
		c.must("reopen", func(ctx context.Context) error {
			_, err := c.cri.ReopenContainerLog(ctx, &v1.ReopenContainerLogRequest{ContainerId: c.cid})
			return err
		}, codes.FailedPrecondition)
		c.must("stop", func(ctx context.Context) error {
			_, err := c.cri.StopContainer(ctx, &v1.StopContainerRequest{ContainerId: c.cid, Timeout: 5})
			return err
		})
		c.ends(7, 143, 137)
	}
	c.down()
	c.must("rmi", func(ctx context.Context) error {
		_, err := c.images.RemoveImage(ctx, &v1.RemoveImageRequest{Image: image})
		return err
	})
}

func (c *client) down() {
	c.must("rm", func(ctx context.Context) error {
		_, err := c.cri.RemoveContainer(ctx, &v1.RemoveContainerRequest{ContainerId: c.cid})
		return err
	})
	c.must("stopp", func(ctx context.Context) error {
		_, err := c.cri.StopPodSandbox(ctx, &v1.StopPodSandboxRequest{PodSandboxId: c.sid})
		return err
	})
	c.must("rmp", func(ctx context.Context) error {
		_, err := c.cri.RemovePodSandbox(ctx, &v1.RemovePodSandboxRequest{PodSandboxId: c.sid})
		return err
	})
}
