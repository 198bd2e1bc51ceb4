package sessions

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/integration/daemontest"
	"github.com/runtimed/runtimed/pkg/cri/control/controlpb"
)

func TestMain(m *testing.M) { os.Exit(daemontest.Main(m)) }

// few is how many sessions of each kind are broken off unless the environment says otherwise; at once are workers of them.
const (
	few     = 80
	workers = 12
)

// world is a daemon with a container that talks, listens to its standard input, and serves a port on its loopback.
type world struct {
	*daemontest.Daemon
	t        *testing.T
	pod, ctr string
}

func TestBrokenSessionsLeaveNothing(t *testing.T) {
	many, err := strconv.Atoi(cmp.Or(os.Getenv("RUNTIMED_TEST_SESSIONS"), strconv.Itoa(few)))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, Daemon: daemontest.Start(t, daemontest.Options{Env: []string{"GOTRACEBACK=all"}})}
	w.Warm()
	p := w.PodConfig("sessions")
	w.pod = w.RunPod(p)
	c := w.ContainerConfig("main", "httpd -p 127.0.0.1:8080 -h /data; while :; do echo tick; sleep 0.2; done")
	c.Stdin = true
	w.ctr = w.RunContainer(w.pod, p, c)

	w.Stop() // the one that pulled has connections to a registry
	w.Restart()
	w.breakOff(workers)
	base := w.rest()
	// The number of goroutines is in what a daemon says when it dies of SIGQUIT; its successor finds all as it was.
	baseRoutines := w.goroutines()
	w.Restart()
	w.breakOff(workers)
	w.breakOff(many)
	var now held
	daemontest.Eventually(t, daemontest.Patience, func() error {
		if now = w.rest(); now.descriptors > base.descriptors || now.monitor > base.monitor {
			return fmt.Errorf("before %+v, now %+v", base, now)
		}
		return nil
	})
	if got := w.Status(w.ctr); got.State != v1.ContainerState_CONTAINER_RUNNING {
		t.Errorf("the container: %v", got)
	}
	routines := w.goroutines()
	if routines > baseRoutines {
		t.Errorf("%d goroutines, before %d", routines, baseRoutines)
	}
	t.Logf("%d of each kind: %+v and %d goroutines before, %+v and %d after", many, base, baseRoutines, now, routines)
	w.Restart()
}

// breakOff breaks off n sessions of each kind.
func (w *world) breakOff(n int) {
	for _, kind := range []struct {
		name string
		do   func(i int)
	}{
		{"exec", w.exec}, {"attach", w.attach}, {"port-forward", w.forward}, {"ExecSync", w.execSync},
	} {
		begin := time.Now()
		each(n, kind.do)
		w.t.Logf("%d of %s in %v", n, kind.name, time.Since(begin).Round(time.Millisecond))
	}
}

func each(n int, do func(i int)) {
	var all sync.WaitGroup
	next := make(chan int)
	for range workers {
		all.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	all.Wait()
}

// session is what Exec, Attach and PortForward of the control service are to a client.
type session interface {
	Send(*controlpb.StreamInput) error
	Recv() (*controlpb.StreamOutput, error)
}

// leave breaks a session off at a moment that i picks: at once, when it has begun, when something came, or with input on
// its way.
func (w *world) leave(s session, cancel func(), i int) {
	defer cancel()
	switch i % 4 {
	case 0:
	case 1:
		s.Recv()
	case 2:
		for {
			m, err := s.Recv()
			if err != nil || len(m.GetStdout()) > 0 {
				return
			}
		}
	case 3:
		s.Recv()
		for range 8 {
			s.Send(&controlpb.StreamInput{Message: &controlpb.StreamInput_Stdin{Stdin: make([]byte, 16<<10)}})
		}
	}
}

func (w *world) begin(s session, err error, first *controlpb.StreamInput) session {
	if err == nil {
		err = s.Send(first)
	}
	if err != nil {
		w.t.Error(err)
	}
	return s
}

func (w *world) exec(i int) {
	ctx, cancel := context.WithCancel(daemontest.Ctx(w.t))
	s, err := w.Conn().Control.Exec(ctx)
	w.leave(w.begin(s, err, &controlpb.StreamInput{Message: &controlpb.StreamInput_BeginExec{BeginExec: &controlpb.BeginExec{
		ContainerId: w.ctr, Stdin: true, Tty: i/4%2 == 0,
		Command: []string{"/bin/sh", "-c", "trap '' HUP TERM; echo begun; setsid sleep 7001 & sleep 7002"},
	}}}), cancel, i)
}

func (w *world) attach(i int) {
	ctx, cancel := context.WithCancel(daemontest.Ctx(w.t))
	s, err := w.Conn().Control.Attach(ctx)
	w.leave(w.begin(s, err, &controlpb.StreamInput{Message: &controlpb.StreamInput_BeginAttach{
		BeginAttach: &controlpb.BeginAttach{ContainerId: w.ctr, Stdin: true},
	}}), cancel, i)
}

func (w *world) forward(i int) {
	ctx, cancel := context.WithCancel(daemontest.Ctx(w.t))
	s, err := w.Conn().Control.PortForward(ctx)
	s = w.begin(s, err, &controlpb.StreamInput{Message: &controlpb.StreamInput_BeginPortForward{
		BeginPortForward: &controlpb.BeginPortForward{PodSandboxId: w.pod, Port: 8080},
	}}).(controlpb.Control_PortForwardClient)
	if i%4 == 2 {
		s.Send(&controlpb.StreamInput{Message: &controlpb.StreamInput_Stdin{Stdin: []byte("GET /seed HTTP/1.0\r\n\r\n")}})
	}
	w.leave(s, cancel, i)
}

// execSync leaves a child behind that holds the pipes.
func (w *world) execSync(int) {
	r, err := w.Conn().Runtime.ExecSync(daemontest.Ctx(w.t), &v1.ExecSyncRequest{
		ContainerId: w.ctr, Cmd: []string{"/bin/sh", "-c", "sleep 5 & echo $!; exit 3"}, Timeout: 50,
	})
	if err != nil || r.ExitCode != 3 || len(r.Stdout) == 0 {
		w.t.Errorf("%v, %v", r, err)
	}
}

// held is what can be counted from outside.
type held struct {
	descriptors int // of the daemon
	monitor     int // descriptors of the container's monitor
	stages      int // exec stages
	sessions    int // processes of sessions
	dead        int // that nobody has waited for
}

// rest waits until what sessions of before left has ended: two looks in a row show the same.
func (w *world) rest() held {
	last := w.holds(0)
	daemontest.Eventually(w.t, daemontest.Patience, func() error {
		before := last
		last = w.holds(300 * time.Millisecond)
		if last != before || last.stages+last.sessions+last.dead > 0 {
			return fmt.Errorf("%+v, then %+v", before, last)
		}
		return nil
	})
	return last
}

func (w *world) holds(after time.Duration) held {
	time.Sleep(after)
	h := held{descriptors: descriptors(w.PID())}
	for _, p := range daemontest.Processes() {
		args := strings.Join(p.Args, " ")
		switch {
		case p.State == "Z" && p.PPID != 1:
			h.dead++
		case filepath.Base(p.Args[0]) == "runtimed-shim":
			h.stages++
		case filepath.Base(p.Args[0]) == "runtimed-monitor" && strings.Contains(args, w.ctr):
			h.monitor = descriptors(p.PID)
		case strings.Contains(args, "sleep 5"), strings.Contains(args, "sleep 700"):
			h.sessions++
		}
	}
	return h
}

func descriptors(pid int) int {
	all, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return len(all)
}

// goroutines ends the daemon, and counts what it had.
func (w *world) goroutines() int {
	w.t.Helper()
	from, err := os.Stat(w.LogFile)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := syscall.Kill(w.PID(), syscall.SIGQUIT); err != nil {
		w.t.Fatal(err)
	}
	<-w.Exited()
	b, err := os.ReadFile(w.LogFile)
	if err != nil {
		w.t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(b[from.Size():])) {
		if strings.HasPrefix(line, "goroutine ") {
			n++
		}
	}
	if n == 0 {
		w.t.Fatalf("the daemon did not say what it had: %s", w.Said())
	}
	return n
}
