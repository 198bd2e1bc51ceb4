package network

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// BenchmarkAddRemove reports the medians of both, with ten other pods there.
func BenchmarkAddRemove(b *testing.B) {
	for name, ports := range map[string][]spec.PortMapping{"plain": nil, "ports": somePorts} {
		b.Run(name, func(b *testing.B) {
			node, _ := newNode(b)
			n := start(b, node, config(b), nil, nil)
			for range 10 {
				addPod(b, n)
			}
			var add, remove []time.Duration
			for b.Loop() {
				b.StopTimer()
				pod := newNS(b, "pod")
				r := request(pod, ports...)
				b.StartTimer()
				t0 := time.Now()
				result, err := n.Add(context.Background(), r)
				must(err)
				t1 := time.Now()
				must(n.Remove(context.Background(), r.SandboxID, &result))
				add, remove = append(add, t1.Sub(t0)), append(remove, time.Since(t1))
				b.StopTimer()
				pod.remove()
				b.StartTimer()
			}
			slices.Sort(add)
			slices.Sort(remove)
			b.ReportMetric(float64(add[len(add)/2].Microseconds()), "µs/add-p50")
			b.ReportMetric(float64(remove[len(remove)/2].Microseconds()), "µs/remove-p50")
		})
	}
}
