package tracing

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	otelcodes "go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc/stats"

	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

// recorded makes a tracer whose spans are kept, and what reads them.
func recorded(t *testing.T, perMillion int) (*Tracer, func() []sdktrace.ReadOnlySpan) {
	t.Helper()
	kept := tracetest.NewInMemoryExporter()
	tr := newTracer(kept, Options{PerMillion: perMillion, Version: "1"})
	t.Cleanup(func() { tr.Close(context.Background()) })
	return tr, func() []sdktrace.ReadOnlySpan {
		if err := tr.provider.ForceFlush(context.Background()); err != nil {
			t.Fatal(err)
		}
		return kept.GetSpans().Snapshots()
	}
}

func attributesOf(s sdktrace.ReadOnlySpan) map[string]string {
	out := map[string]string{}
	for _, a := range s.Attributes() {
		out[string(a.Key)] = a.Value.AsString()
	}
	return out
}

func TestSteps(t *testing.T) {
	tr, spans := recorded(t, 1e6)
	ctx, call := tr.tracer.Start(t.Context(), "call")
	for _, e := range []step.Event{
		{Flow: "container", Step: "shim", Phase: step.Doing, ID: "c1", Ctx: ctx}, {Flow: "container", Step: "shim", Phase: step.Failed, ID: "c1"},
		{Flow: "sandbox", Step: "network", Phase: step.Undoing, ID: "s1", Ctx: ctx}, {Flow: "sandbox", Step: "network", Phase: step.Undone, ID: "s1"},
		{Flow: "sandbox", Step: "files", Phase: step.Doing, ID: "s1", Ctx: t.Context()}, {Flow: "sandbox", Step: "files", Phase: step.Done, ID: "s1"},
		{Flow: "sandbox", Step: "ready", Phase: step.Doing, ID: "s1"}, {Flow: "sandbox", Step: "ready", Phase: step.Done, ID: "s1"},
	} {
		if err := tr.Step(e); err != nil {
			t.Fatal(err)
		}
	}
	call.End()
	got := spans()
	if len(got) != 3 || got[0].Name() != "container shim" || got[1].Name() != "sandbox undo network" {
		t.Fatalf("%d spans: %v", len(got), got)
	}
	if got[0].Parent().SpanID() != call.SpanContext().SpanID() || got[0].Status().Code != otelcodes.Error || got[1].Status().Code == otelcodes.Error {
		t.Errorf("%v %v", got[0].Parent(), got[0].Status())
	}
	if a := attributesOf(got[0]); a["container.id"] != "c1" || a["runtimed.step"] != "shim" {
		t.Errorf("attributes %v", a)
	}
	if a := attributesOf(got[1]); a["sandbox.id"] != "s1" {
		t.Errorf("attributes %v", a)
	}
	if len(tr.open) != 0 {
		t.Errorf("%d spans are open", len(tr.open))
	}
}

func TestNothingIsSampled(t *testing.T) {
	tr, spans := recorded(t, 0)
	ctx, call := tr.tracer.Start(t.Context(), "call")
	tr.Step(step.Event{Flow: "f", Step: "s", Phase: step.Doing, ID: "1", Ctx: ctx})
	tr.Step(step.Event{Flow: "f", Step: "s", Phase: step.Done, ID: "1", Ctx: ctx})
	call.End()
	if got := spans(); len(got) != 0 || len(tr.open) != 0 {
		t.Errorf("%v", got)
	}
}

func TestQuestionsAreNotTraced(t *testing.T) {
	for name, want := range map[string]bool{
		"RunPodSandbox": true, "ExecSync": true, "PullImage": true, "RemoveContainer": true, "UpdateRuntimeConfig": true,
		"ListContainers": false, "ContainerStatus": false, "ContainerStats": false, "Version": false, "GetContainerEvents": false, "ImageFsInfo": false,
	} {
		if got := worthwhile(&stats.RPCTagInfo{FullMethodName: "/runtime.v1.RuntimeService/" + name}); got != want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestAuthorities(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, ca := range []string{file, file + ".none"} {
		if _, err := New(t.Context(), Options{Endpoint: "127.0.0.1:1", CA: ca, Log: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), "tracing.ca") {
			t.Errorf("%s: %v", ca, err)
		}
	}
	tr, err := New(t.Context(), Options{Endpoint: "127.0.0.1:1", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	tr.Close(ctx) // a collector that is not there holds up nobody
}
