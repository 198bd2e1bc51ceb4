package metrics

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

// buckets are upper bounds in seconds, from a question that is answered from memory to a large image.
var buckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 60, 300}

// Set is everything that is counted.
type Set struct {
	registry *prometheus.Registry
	calls    *prometheus.HistogramVec
	steps    *prometheus.HistogramVec
	pulls    *prometheus.CounterVec
	exits    *prometheus.CounterVec
	oom      prometheus.Counter
	lost     prometheus.Counter
	leaks    *prometheus.GaugeVec
	looked   prometheus.Gauge

	mu    sync.Mutex
	begun map[underway]time.Time
}

// underway is a step that has begun.
type underway struct{ flow, id, step string }

// New makes a Set for this version of the daemon.
func New(version string) *Set {
	s := &Set{
		registry: prometheus.NewRegistry(), begun: map[underway]time.Time{},
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "runtimed_rpc_duration_seconds",
			Help: "Time that calls took, by RPC and gRPC code. Of a stream it is the stream's life.", Buckets: buckets}, []string{"rpc", "code"}),
		steps: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "runtimed_step_duration_seconds",
			Help: "Time that a step of a flow took, by flow, step, direction (do, undo) and result (ok, failed).", Buckets: buckets},
			[]string{"flow", "step", "direction", "result"}),
		pulls: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "runtimed_image_pulls_total",
			Help: "Image pulls that were answered, by gRPC code."}, []string{"code"}),
		exits: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "runtimed_container_exits_total",
			Help: "Containers that ended, by reason: Completed, Error, OOMKilled, StartError, ShimLost, NodeRebooted."}, []string{"reason"}),
		oom: prometheus.NewCounter(prometheus.CounterOpts{Name: "runtimed_container_oom_total",
			Help: "Containers that ended and of which the kernel had killed a process for want of memory."}),
		lost: prometheus.NewCounter(prometheus.CounterOpts{Name: "runtimed_log_dropped_bytes_total",
			Help: "Output of ended containers that could not be written to their log, in bytes."}),
		leaks: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "runtimed_leaks",
			Help: "Objects on the node that no record names, by kind, when it was last looked; see runtimed doctor --leaks."}, []string{"kind"}),
		looked: prometheus.NewGauge(prometheus.GaugeOpts{Name: "runtimed_leaks_looked_timestamp_seconds",
			Help: "When it was last looked for leaks, since the epoch; 0 when not yet."}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{Name: "runtimed_build_info", Help: "1, with the daemon's version.",
		ConstLabels: prometheus.Labels{"version": version}})
	build.Set(1)
	s.registry.MustRegister(s.calls, s.steps, s.pulls, s.exits, s.oom, s.lost, s.leaks, s.looked, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return s
}

// Call counts a call that was answered.
func (s *Set) Call(rpc, code string, took time.Duration) {
	s.calls.WithLabelValues(rpc, code).Observe(took.Seconds())
	if rpc == "PullImage" {
		s.pulls.WithLabelValues(code).Inc()
	}
}

// Step is a step.Observer.
func (s *Set) Step(e step.Event) error {
	key, now := underway{e.Flow, e.ID, e.Step}, time.Now()
	s.mu.Lock()
	begun, known := s.begun[key]
	if e.Phase == step.Doing || e.Phase == step.Undoing {
		s.begun[key] = now
	} else {
		delete(s.begun, key)
	}
	s.mu.Unlock()
	direction, result := "do", "ok"
	switch e.Phase {
	case step.Done:
	case step.Undone:
		direction = "undo"
	case step.Failed:
		result = "failed"
	default:
		return nil
	}
	if known {
		s.steps.WithLabelValues(e.Flow, e.Step, direction, result).Observe(now.Sub(begun).Seconds())
	}
	return nil
}

// Ended counts a container's end.
func (s *Set) Ended(e spec.Exit) {
	s.exits.WithLabelValues(e.Why()).Inc()
	if e.OOMKilled {
		s.oom.Inc()
	}
	s.lost.Add(float64(e.LogLost))
}

// Leaks says what was found, by kind.
func (s *Set) Leaks(found map[string]int, at time.Time) {
	s.leaks.Reset()
	for kind, n := range found {
		s.leaks.WithLabelValues(kind).Set(float64(n))
	}
	s.looked.Set(float64(at.Unix()))
}

// Objects is what there is to count when somebody scrapes.
type Objects struct {
	Containers func(context.Context, spec.ContainerFilter) ([]spec.ContainerView, error)
	Sandboxes  func(context.Context, spec.SandboxFilter) ([]spec.SandboxView, error)
	Images     func(context.Context, string) ([]spec.Image, error)
	FsInfo     func(context.Context) (spec.FsInfo, error)
}

// Watch counts them at each scrape from now on. It is called once.
func (s *Set) Watch(o Objects) { s.registry.MustRegister(census{o}) }

// census is the prometheus.Collector of Objects.
type census struct{ Objects }

var (
	containersDesc = prometheus.NewDesc("runtimed_containers", "Containers that have a record, by state.", []string{"state"}, nil)
	sandboxesDesc  = prometheus.NewDesc("runtimed_sandboxes", "Pod sandboxes that have a record, by state.", []string{"state"}, nil)
	imagesDesc     = prometheus.NewDesc("runtimed_images", "Local images.", nil, nil)
	imageBytesDesc = prometheus.NewDesc("runtimed_images_bytes", "Room that the image store takes, in bytes.", nil, nil)
)

// Describe names the metrics.
func (census) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{containersDesc, sandboxesDesc, imagesDesc, imageBytesDesc} {
		out <- d
	}
}

// Collect counts. What cannot be counted is left out.
func (c census) Collect(out chan<- prometheus.Metric) {
	ctx := context.Background()
	gauge := func(d *prometheus.Desc, n float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, n, labels...)
	}
	if all, err := c.Containers(ctx, spec.ContainerFilter{}); err == nil {
		n := map[spec.ContainerState]int{}
		for _, v := range all {
			n[v.State]++
		}
		for _, state := range []spec.ContainerState{spec.ContainerCreated, spec.ContainerRunning, spec.ContainerExited, spec.ContainerUnknown} {
			gauge(containersDesc, float64(n[state]), string(state))
		}
	}
	if all, err := c.Sandboxes(ctx, spec.SandboxFilter{}); err == nil {
		n := map[spec.SandboxState]int{}
		for _, v := range all {
			n[v.State]++
		}
		for _, state := range []spec.SandboxState{spec.SandboxReady, spec.SandboxNotReady} {
			gauge(sandboxesDesc, float64(n[state]), string(state))
		}
	}
	if all, err := c.Images(ctx, ""); err == nil {
		gauge(imagesDesc, float64(len(all)))
	}
	if use, err := c.FsInfo(ctx); err == nil {
		gauge(imageBytesDesc, float64(use.UsedBytes))
	}
}

// Serve answers GET /metrics on the listener, until Close of what it returns.
func (s *Set) Serve(l net.Listener) *http.Server {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: 4, Timeout: 30 * time.Second, ErrorHandling: promhttp.ContinueOnError, DisableCompression: true,
	}))
	server := &http.Server{
		Handler: mux, ReadHeaderTimeout: 10 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 5 * time.Minute, MaxHeaderBytes: 16 << 10,
	}
	go server.Serve(l) // ends with the server's Close, which closes the listener
	return server
}
