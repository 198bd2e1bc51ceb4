package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

// scrape is what the set serves.
func scrape(t *testing.T, s *Set) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Serve(l).Close()
	r, err := http.Get("http://" + l.Addr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v: %s", r.Status, err, b)
	}
	other, err := http.Get("http://" + l.Addr().String() + "/debug/pprof/")
	if err != nil || other.StatusCode != http.StatusNotFound {
		t.Errorf("another path: %v, %v", other.Status, err)
	}
	other.Body.Close()
	return string(b)
}

func wants(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, l := range lines {
		if !strings.Contains(text, l+"\n") {
			t.Errorf("lacks %q:\n%s", l, text)
		}
	}
}

func TestWhatIsCounted(t *testing.T) {
	s := New("1.2.3")
	s.Call("RunPodSandbox", "OK", 20*time.Millisecond)
	s.Call("PullImage", "OK", 2*time.Second)
	s.Call("PullImage", "Unavailable", time.Second)
	s.Ended(spec.Exit{Code: 0, LogLost: 5})
	s.Ended(spec.Exit{Code: 137, OOMKilled: true, LogLost: 7})
	s.Ended(spec.Exit{Reason: "ShimLost"})
	s.Leaks(map[string]int{"mount": 3}, time.Unix(50, 0))
	s.Leaks(map[string]int{"process": 2}, time.Unix(77, 0))
	text := scrape(t, s)
	wants(t, text,
		`runtimed_build_info{version="1.2.3"} 1`,
		`runtimed_rpc_duration_seconds_count{code="OK",rpc="RunPodSandbox"} 1`,
		`runtimed_rpc_duration_seconds_bucket{code="OK",rpc="RunPodSandbox",le="0.025"} 1`,
		`runtimed_rpc_duration_seconds_bucket{code="OK",rpc="RunPodSandbox",le="0.01"} 0`,
		`runtimed_image_pulls_total{code="OK"} 1`, `runtimed_image_pulls_total{code="Unavailable"} 1`,
		`runtimed_container_exits_total{reason="Completed"} 1`, `runtimed_container_exits_total{reason="OOMKilled"} 1`,
		`runtimed_container_exits_total{reason="ShimLost"} 1`, `runtimed_container_oom_total 1`, `runtimed_log_dropped_bytes_total 12`,
		`runtimed_leaks{kind="process"} 2`, `runtimed_leaks_looked_timestamp_seconds 77`)
	if strings.Contains(text, `kind="mount"`) {
		t.Error("leaks that are gone are still told")
	}
	for _, name := range []string{"go_goroutines", "process_resident_memory_bytes"} {
		if !strings.Contains(text, "\n"+name+" ") {
			t.Errorf("lacks %s", name)
		}
	}
}

func TestSteps(t *testing.T) {
	s := New("")
	var wait sync.WaitGroup
	for i := range 20 {
		wait.Go(func() {
			tell := func(name string, p step.Phase) {
				if err := s.Step(step.Event{Flow: "sandbox", ID: fmt.Sprint(i), Step: name, Phase: p}); err != nil {
					t.Error(err)
				}
			}
			tell("a", step.Doing)
			tell("a", step.Done)
			tell("b", step.Doing)
			tell("b", step.Failed)
			tell("a", step.Undoing)
			tell("a", step.Undone)
			tell("never begun", step.Done)
		})
	}
	wait.Wait()
	text := scrape(t, s)
	wants(t, text,
		`runtimed_step_duration_seconds_count{direction="do",flow="sandbox",result="ok",step="a"} 20`,
		`runtimed_step_duration_seconds_count{direction="do",flow="sandbox",result="failed",step="b"} 20`,
		`runtimed_step_duration_seconds_count{direction="undo",flow="sandbox",result="ok",step="a"} 20`)
	if strings.Contains(text, "never begun") || len(s.begun) != 0 {
		t.Errorf("%d steps are still under way", len(s.begun))
	}
}

func TestCensus(t *testing.T) {
	s := New("")
	fails := errors.New("no")
	s.Watch(Objects{
		Containers: func(context.Context, spec.ContainerFilter) ([]spec.ContainerView, error) {
			return []spec.ContainerView{{State: spec.ContainerRunning}, {State: spec.ContainerRunning}, {State: spec.ContainerExited}}, nil
		},
		Sandboxes: func(context.Context, spec.SandboxFilter) ([]spec.SandboxView, error) {
			return []spec.SandboxView{{State: spec.SandboxReady}}, nil
		},
		Images: func(context.Context, string) ([]spec.Image, error) { return nil, fails },
		FsInfo: func(context.Context) (spec.FsInfo, error) { return spec.FsInfo{UsedBytes: 4096}, nil },
	})
	text := scrape(t, s)
	wants(t, text, `runtimed_containers{state="running"} 2`, `runtimed_containers{state="exited"} 1`, `runtimed_containers{state="created"} 0`,
		`runtimed_sandboxes{state="ready"} 1`, `runtimed_sandboxes{state="notready"} 0`, `runtimed_images_bytes 4096`)
	if strings.Contains(text, "runtimed_images ") {
		t.Error("what cannot be counted is told")
	}
}
