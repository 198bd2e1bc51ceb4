package tracing

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/stats"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

// Options of a Tracer. Endpoint is needed.
type Options struct {
	Endpoint   string // host:port of an OTLP/gRPC collector
	Plaintext  bool   // no TLS
	CA         string // PEM file of the authorities that the collector is trusted by; "" takes the system's
	PerMillion int    // how many of a million traces that no caller began are sampled
	Version    string
	Log        *slog.Logger
}

// Tracer makes spans and sends them.
type Tracer struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer

	mu   sync.Mutex
	open map[key]trace.Span
}

// key names a step that has begun.
type key struct{ flow, id, step string }

// New makes a Tracer. It connects to nothing yet, and whether the collector is there does not matter.
func New(ctx context.Context, o Options) (*Tracer, error) {
	dial := []otlptracegrpc.Option{otlptracegrpc.WithEndpoint(o.Endpoint), otlptracegrpc.WithTimeout(10 * time.Second)}
	if o.Plaintext {
		dial = append(dial, otlptracegrpc.WithInsecure())
	} else {
		c, err := secure(o.CA)
		if err != nil {
			return nil, err
		}
		dial = append(dial, otlptracegrpc.WithTLSCredentials(c))
	}
	exporter, err := otlptracegrpc.New(ctx, dial...)
	if err != nil {
		return nil, err
	}
	otel.SetErrorHandler(&complaints{log: o.Log})
	return newTracer(exporter, o), nil
}

func newTracer(exporter sdktrace.SpanExporter, o Options) *Tracer {
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter, sdktrace.WithMaxQueueSize(4096)),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(float64(o.PerMillion)/1e6))),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "runtimed"), attribute.String("service.version", o.Version))),
	)
	return &Tracer{provider: provider, tracer: provider.Tracer("github.com/runtimed/runtimed"), open: map[key]trace.Span{}}
}

func secure(ca string) (credentials.TransportCredentials, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, spec.Preconditionf("tracing.ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, spec.Preconditionf("tracing.ca: %s holds no certificate", ca)
		}
	}
	return credentials.NewTLS(config), nil
}

// complaints logs what goes wrong with sending, once a minute at most.
type complaints struct {
	log  *slog.Logger
	mu   sync.Mutex
	last time.Time
}

// Handle logs.
func (c *complaints) Handle(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.last) > time.Minute {
		c.last = time.Now()
		c.log.Warn("traces are lost: the collector does not take them", "error", err)
	}
}

// Close sends what there is, as long as ctx allows.
func (t *Tracer) Close(ctx context.Context) error { return t.provider.Shutdown(ctx) }

// ServerOptions trace the calls of a gRPC server. Questions, which the kubelet has all the time, are traced only where
// the caller does.
func (t *Tracer) ServerOptions() []grpc.ServerOption {
	handler := otelgrpc.NewServerHandler(
		otelgrpc.WithTracerProvider(t.provider), otelgrpc.WithMeterProvider(noop.NewMeterProvider()),
		otelgrpc.WithPropagators(propagation.TraceContext{}), otelgrpc.WithFilter(worthwhile))
	return []grpc.ServerOption{grpc.StatsHandler(handler), grpc.ChainUnaryInterceptor(ids)}
}

func worthwhile(i *stats.RPCTagInfo) bool {
	name := path.Base(i.FullMethodName)
	for _, quiet := range []string{"List", "Stream", "Get", "Version", "RuntimeConfig", "ImageFsInfo", "Info", "Wait"} {
		if strings.HasPrefix(name, quiet) {
			return false
		}
	}
	return !strings.HasSuffix(name, "Status") && !strings.HasSuffix(name, "Stats")
}

// ids puts the ids that a call is about on its span.
func ids(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	resp, err := handler(ctx, req)
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return resp, err
	}
	for _, m := range []any{req, resp} {
		if m, ok := m.(interface{ GetPodSandboxId() string }); ok && m.GetPodSandboxId() != "" {
			span.SetAttributes(attribute.String("sandbox.id", m.GetPodSandboxId()))
		}
		if m, ok := m.(interface{ GetContainerId() string }); ok && m.GetContainerId() != "" {
			span.SetAttributes(attribute.String("container.id", m.GetContainerId()))
		}
	}
	return resp, err
}

// Step is a step.Observer: a span for each step, in the trace of the call that it serves.
func (t *Tracer) Step(e step.Event) error {
	k := key{e.Flow, e.ID, e.Step}
	switch e.Phase {
	case step.Doing, step.Undoing:
		ctx := e.Ctx
		if ctx == nil || !trace.SpanContextFromContext(ctx).IsSampled() {
			return nil // nobody traces the call, or nobody called
		}
		name := e.Flow + " " + e.Step
		if e.Phase == step.Undoing {
			name = e.Flow + " undo " + e.Step
		}
		_, span := t.tracer.Start(ctx, name, trace.WithAttributes(
			attribute.String("runtimed.flow", e.Flow), attribute.String("runtimed.step", e.Step), attribute.String(idOf(e.Flow), e.ID)))
		t.mu.Lock()
		defer t.mu.Unlock()
		t.open[k] = span
	default:
		t.mu.Lock()
		span := t.open[k]
		delete(t.open, k)
		t.mu.Unlock()
		if span == nil {
			return nil
		}
		if e.Phase == step.Failed {
			span.SetStatus(otelcodes.Error, "")
		}
		span.End()
	}
	return nil
}

// idOf names the attribute that holds a flow's id.
func idOf(flow string) string {
	switch flow {
	case "container":
		return "container.id"
	case "sandbox", "namespaces", "network", "files", "init":
		return "sandbox.id"
	case "pull":
		return "image.ref"
	}
	return "runtimed.id"
}
