package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/integration/registrytest"
)

// bench is one run.
type bench struct {
	dir      string // everything of it
	groups   string // cgroup below which everything measured runs
	probe    string // the measured containers' program
	pid      int    // of the daemon
	serial   int
	runtime  runtimeapi.RuntimeServiceClient
	images   runtimeapi.ImageServiceClient
	registry *registrytest.Registry
	report   *report
}

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	begin := time.Now()
	b := &bench{
		dir: "/mnt", groups: os.Getenv("BENCH_GROUPS"), probe: os.Getenv("BENCH_PROBE"), report: &report{out: os.Stdout},
	}
	if b.groups == "" || b.probe == "" {
		return fmt.Errorf("start it with integration/bench/bench.sh")
	}
	stop, err := b.startDaemon(ctx)
	if err != nil {
		return err
	}
	defer stop()
	only := strings.Fields(os.Getenv("ONLY"))
	fmt.Println("figures are medians (p10–p90, number); ratios are ours / the peer's of the same round")
	for _, s := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"start", b.measureStart}, {"layers", b.measureLayers}, {"logs", b.measureLogs},
		{"pods", b.measurePods}, {"memory", b.measureMemory}, {"unpack", b.measureUnpack}, {"node", b.measureNode},
	} {
		if len(only) > 0 && !slices.Contains(only, s.name) || len(only) == 0 && s.name == "node" { // it takes minutes of rest
			continue
		}
		if err := s.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	fmt.Printf("\n%d below their gates; %d s\n", b.report.below, int(time.Since(begin).Seconds()))
	return nil
}
