package stats

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/integration/daemontest"
)

// scrape reads the daemon's metrics from its socket.
func scrape(t *testing.T, d *daemontest.Daemon) map[string]float64 {
	t.Helper()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", d.Layout.Run+"/metrics.sock")
	}}}
	r, err := c.Get("http://runtimed/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for line := range strings.Lines(string(b)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.ParseFloat(value, 64); ok && err == nil {
			out[name] = n
		}
	}
	return out
}

// The daemon counts what it did, on a socket that is its user's alone.
func TestMetricsOfTheDaemon(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	d.Pull()
	p := d.PodConfig("counted")
	pod := d.RunPod(p)
	d.Ended(d.RunContainer(pod, p, d.ContainerConfig("fails", "exit 3")))
	d.RunContainer(pod, p, d.ContainerConfig("runs", daemontest.Sleep))
	oom := d.ContainerConfig("oom", "head -c 300m /dev/zero | tail")
	oom.Linux.Resources.MemoryLimitInBytes = 32 << 20
	if s := d.Ended(d.RunContainer(pod, p, oom)); s.Reason != "OOMKilled" {
		t.Fatalf("%v", s)
	}
	m := scrape(t, d)
	for name, want := range map[string]float64{
		`runtimed_rpc_duration_seconds_count{code="OK",rpc="RunPodSandbox"}`:                             1,
		`runtimed_rpc_duration_seconds_count{code="OK",rpc="StartContainer"}`:                            3,
		`runtimed_image_pulls_total{code="OK"}`:                                                          1,
		`runtimed_step_duration_seconds_count{direction="do",flow="sandbox",result="ok",step="network"}`: 1,
		`runtimed_step_duration_seconds_count{direction="do",flow="container",result="ok",step="shim"}`:  3,
		`runtimed_container_exits_total{reason="Error"}`:                                                 1,
		`runtimed_container_exits_total{reason="OOMKilled"}`:                                             1,
		`runtimed_container_oom_total`:                                                                   1,
		`runtimed_containers{state="running"}`:                                                           1,
		`runtimed_containers{state="exited"}`:                                                            2,
		`runtimed_sandboxes{state="ready"}`:                                                              1,
		`runtimed_images`:                                                                                1,
	} {
		if m[name] != want {
			t.Errorf("%s is %v, not %v", name, m[name], want)
		}
	}
	st, err := os.Stat(d.Layout.Run + "/metrics.sock")
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", st.Mode(), err)
	}
	d.Stop()
	if _, err := os.Stat(d.Layout.Run + "/metrics.sock"); err == nil {
		t.Error("the socket of a daemon that left is there")
	}
}

// Where they are off there is no socket; a loopback address serves them too.
func TestMetricsElsewhere(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{Config: "[metrics]\nlisten = \"127.0.0.1:19430\"\n"})
	r, err := http.Get("http://127.0.0.1:19430/metrics")
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	off := daemontest.Start(t, daemontest.Options{Config: "[metrics]\nlisten = \"off\"\n"})
	for _, o := range []*daemontest.Daemon{d, off} {
		if _, err := os.Stat(o.Layout.Run + "/metrics.sock"); err == nil {
			t.Error("there is a socket")
		}
	}
}

// Ten stopped shims cost a daemon that is asked for statistics all the time nothing: no goroutine, no descriptor, no delay.
func TestStoppedShimsCostNothing(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	d.Pull()
	p := d.PodConfig("stopped")
	pod := d.RunPod(p)
	for i := range 10 {
		d.RunContainer(pod, p, d.ContainerConfig(fmt.Sprintf("c%d", i), "sleep 1000"))
	}
	stopped := 0
	for _, q := range daemontest.Processes() {
		if strings.Contains(q.Args[0], "runtimed-monitor") && strings.Contains(strings.Join(q.Args, " "), d.Layout.Root) {
			if err := unix.Kill(q.PID, unix.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { unix.Kill(q.PID, unix.SIGCONT) })
			stopped++
		}
	}
	if stopped != 10 {
		t.Fatalf("%d shims were stopped", stopped)
	}
	ask := func() {
		if got := listed(t, d, nil); len(got) != 10 {
			t.Fatalf("%d containers are told of", len(got))
		}
		podStats(t, d, pod)
		if r, err := d.Conn().Runtime.ListPodSandboxMetrics(daemontest.Ctx(t), &v1.ListPodSandboxMetricsRequest{}); err != nil || len(r.PodMetrics[0].ContainerMetrics) != 10 {
			t.Fatalf("metrics: %v", err)
		}
	}
	for range 5 {
		ask()
	}
	before := scrape(t, d)
	for range 40 {
		ask()
	}
	after := scrape(t, d)
	t.Logf("goroutines %v → %v, descriptors %v → %v, resident %v → %v MiB", before["go_goroutines"], after["go_goroutines"],
		before["process_open_fds"], after["process_open_fds"], before["process_resident_memory_bytes"]/(1<<20), after["process_resident_memory_bytes"]/(1<<20))
	if after["go_goroutines"] > before["go_goroutines"]+5 || after["process_open_fds"] > before["process_open_fds"]+5 {
		t.Errorf("goroutines %v → %v, descriptors %v → %v", before["go_goroutines"], after["go_goroutines"], before["process_open_fds"], after["process_open_fds"])
	}
	if grown := after["go_memstats_heap_inuse_bytes"] - before["go_memstats_heap_inuse_bytes"]; grown > 16<<20 {
		t.Errorf("the heap has grown by %v bytes", grown)
	}
}

// Containers that have ended cost bytes.
func TestEndedContainersCostBytes(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	d.Pull()
	p := d.PodConfig("ended")
	pod := d.RunPod(p)
	d.Ended(d.RunContainer(pod, p, d.ContainerConfig("first", "true")))
	before := scrape(t, d)
	const n = 30
	for i := range n {
		id := d.RunContainer(pod, p, d.ContainerConfig(fmt.Sprintf("c%d", i), "true"))
		d.Ended(id)
		containerStats(t, d, id)
	}
	var after map[string]float64
	daemontest.Eventually(t, daemontest.Patience, func() error {
		after = scrape(t, d)
		if after["go_goroutines"] > before["go_goroutines"]+5 || after["process_open_fds"] > before["process_open_fds"]+5 {
			return fmt.Errorf("goroutines %v → %v, descriptors %v → %v", before["go_goroutines"], after["go_goroutines"], before["process_open_fds"], after["process_open_fds"])
		}
		return nil
	})
	if after[`runtimed_containers{state="exited"}`] != n+1 {
		t.Errorf("%v containers have ended", after[`runtimed_containers{state="exited"}`])
	}
}

// sink is a collector that keeps the spans.
type sink struct {
	collector.UnimplementedTraceServiceServer
	mu    sync.Mutex
	spans []*tracev1.Span
}

func (s *sink) Export(_ context.Context, r *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, rs := range r.ResourceSpans {
		for _, ss := range rs.ScopeSpans {
			s.spans = append(s.spans, ss.Spans...)
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

func (s *sink) find(name string) *tracev1.Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sp := range s.spans {
		if sp.Name == name {
			return sp
		}
	}
	return nil
}

func attributeOf(s *tracev1.Span, key string) string {
	for _, a := range s.GetAttributes() {
		if a.Key == key {
			return a.Value.GetStringValue()
		}
	}
	return ""
}

// A call is one trace: the call with its ids, and each step below it.
func TestTraces(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	kept, server := &sink{}, grpc.NewServer()
	collector.RegisterTraceServiceServer(server, kept)
	go server.Serve(l)
	t.Cleanup(server.Stop)
	d := daemontest.Start(t, daemontest.Options{Config: fmt.Sprintf("[tracing]\nendpoint = %q\nplaintext = true\n", l.Addr().String())})
	d.Pull()
	p := d.PodConfig("traced")
	pod := d.RunPod(p)
	id := d.RunContainer(pod, p, d.ContainerConfig("main", daemontest.Sleep))
	d.RemovePod(pod)
	d.Stop() // sends what is left
	call := kept.find("runtime.v1.RuntimeService/RunPodSandbox")
	if attributeOf(call, "sandbox.id") != pod {
		t.Fatalf("the call's span: %v", call)
	}
	for _, name := range []string{"sandbox network", "namespaces clone", "network veth"} {
		s := kept.find(name)
		if s == nil || string(s.TraceId) != string(call.TraceId) || attributeOf(s, "sandbox.id") != pod {
			t.Errorf("%s: %v", name, s)
		}
	}
	start := kept.find("runtime.v1.RuntimeService/StartContainer")
	if s := kept.find("container shim"); s == nil || string(s.TraceId) != string(start.GetTraceId()) || attributeOf(s, "container.id") != id {
		t.Errorf("container shim: %v", s)
	}
	if kept.find("sandbox undo network") == nil || kept.find("pull fetch") == nil {
		t.Error("no span of an undo, or of a pull")
	}
	if kept.find("runtime.v1.RuntimeService/Version") != nil {
		t.Error("questions are traced")
	}
}

// A collector that is not there costs a line in the log.
func TestACollectorThatIsNotThere(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{Config: "[tracing]\nendpoint = \"127.0.0.1:9\"\nplaintext = true\n"})
	p := d.PodConfig("untraced")
	d.RemovePod(d.RunPod(p))
	d.Stop()
	if n := strings.Count(d.Said(), "traces are lost"); n > 2 {
		t.Errorf("%d lines of it\n%s", n, d.Said())
	}
}
