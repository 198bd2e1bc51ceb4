package serve

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"time"

	"github.com/runtimed/runtimed/cmd/runtimed/config"
	"github.com/runtimed/runtimed/cmd/runtimed/doctor"
	"github.com/runtimed/runtimed/cmd/runtimed/metrics"
	"github.com/runtimed/runtimed/cmd/runtimed/tracing"
	"github.com/runtimed/runtimed/pkg/cri"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

// telemetry is what the daemon tells of itself. Either may be nil.
type telemetry struct {
	metrics *metrics.Set
	tracer  *tracing.Tracer
}

// newTelemetry makes what the configuration wants, and hooks it into the options: behind an observer that is there.
func newTelemetry(ctx context.Context, c config.Config, o *Options) (t telemetry, err error) {
	observers := []step.Observer{o.Observe}
	if network, _ := c.MetricsAddress(); network != "" {
		t.metrics = metrics.New(o.Version)
		o.ended = t.metrics.Ended
		observers = append(observers, t.metrics.Step)
	}
	if c.Tracing.Endpoint != "" {
		t.tracer, err = tracing.New(ctx, tracing.Options{
			Endpoint: c.Tracing.Endpoint, Plaintext: c.Tracing.Plaintext, CA: c.Tracing.CA, PerMillion: c.Tracing.PerMillion,
			Version: o.Version, Log: o.Log,
		})
		if err != nil {
			return t, err
		}
		observers = append(observers, t.tracer.Step)
	}
	o.Observe = all(observers)
	return t, nil
}

// all tells every observer that is there, in order; the first error is the answer.
func all(observers []step.Observer) step.Observer {
	observers = slices.DeleteFunc(observers, func(o step.Observer) bool { return o == nil })
	switch len(observers) {
	case 0:
		return nil
	case 1:
		return observers[0]
	}
	return func(e step.Event) error {
		var first error
		for _, o := range observers {
			if err := o(e); err != nil && first == nil {
				first = err
			}
		}
		return first
	}
}

// hook adds to the door's options.
func (t telemetry) hook(o *cri.Options) {
	if t.metrics != nil {
		o.Answered = t.metrics.Call
	}
	if t.tracer != nil {
		o.GRPC = append(o.GRPC, t.tracer.ServerOptions()...)
	}
}

// serve serves metrics, and looks for leaks now and then, until end is called.
func (t telemetry) serve(ctx context.Context, c config.Config, o Options, r rooms) (end func(), err error) {
	if t.metrics == nil {
		return func() {}, nil
	}
	t.metrics.Watch(metrics.Objects{
		Containers: r.runtime.Containers, Sandboxes: r.runtime.Sandboxes, Images: r.images.List, FsInfo: r.images.FsInfo,
	})
	l, err := listenMetrics(c, o)
	if err != nil {
		return nil, err
	}
	server := t.metrics.Serve(l)
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		t.lookForLeaks(ctx, c, o)
	}()
	return func() {
		cancel()
		server.Close()
		<-done
	}, nil
}

func listenMetrics(c config.Config, o Options) (net.Listener, error) {
	network, address := c.MetricsAddress()
	if network == "unix" {
		return cri.Listen(address, slices.Concat(c.Socket.AllowedUIDs, []uint32{uint32(os.Geteuid())}), o.Log)
	}
	return net.Listen(network, address)
}

const (
	firstLook = time.Minute // after a start, when what a killed daemon left half done has settled
	nextLook  = time.Hour
)

// lookForLeaks looks what no record names, and says so.
func (t telemetry) lookForLeaks(ctx context.Context, c config.Config, o Options) {
	for wait := firstLook; ; wait = nextLook {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		found, err := doctor.Leaks(ctx, c)
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				o.Log.Warn("it could not be looked for leaks", "error", err)
			}
			continue
		}
		n := map[string]int{}
		for _, l := range found {
			n[string(l.Kind)]++
			o.Log.Warn("a leak: no record names it; see runtimed doctor --leaks", "kind", l.Kind, "what", l.What)
		}
		t.metrics.Leaks(n, time.Now())
	}
}

// close sends what is left of the traces.
func (t telemetry) close() {
	if t.tracer == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	t.tracer.Close(ctx) // its own complaints are logged
}
