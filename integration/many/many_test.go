package many

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/integration/daemontest"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func TestMain(m *testing.M) { os.Exit(daemontest.Main(m)) }

// filled is a daemon whose only pod has n created containers with 4 KiB of annotations each, and one of them.
func filled(t daemontest.TB, n int) (d *daemontest.Daemon, pod, one string) {
	t.Helper()
	d = daemontest.Start(t, daemontest.Options{})
	d.Pull()
	p := d.PodConfig("many")
	pod = d.RunPod(p)
	c := d.ContainerConfig("first", "true")
	c.Annotations = map[string]string{"k": strings.Repeat("x", 4095)}
	one = d.Create(pod, p, c)
	d.Stop()
	if err := copies(d.Layout, pod, one, n-1); err != nil {
		t.Fatalf("copy records: %v", err)
	}
	d.Launch()
	if err := d.Serving(5 * time.Minute); err != nil {
		t.Fatalf("%v\n%s", err, d.Said())
	}
	return d, pod, one
}

// copies makes n records of containers from that of one which has never run.
func copies(l spec.Layout, pod, one string, n int) error {
	b, err := os.ReadFile(filepath.Join(l.Container(pod, one), spec.SpecFile))
	if err != nil {
		return err
	}
	var record spec.Container
	if err := json.Unmarshal(b, &record); err != nil {
		return err
	}
	for i := range n {
		var id [32]byte
		rand.Read(id[:])
		record.ID, record.Request.Name = hex.EncodeToString(id[:]), fmt.Sprint("copy-", i)
		record.CgroupPath = strings.Replace(record.CgroupPath, filepath.Base(record.CgroupPath), record.ID, 1)
		b, err := json.Marshal(record)
		dir := l.Container(pod, record.ID)
		if err == nil {
			err = os.Mkdir(dir, 0o700)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, spec.SpecFile), b, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// TestFiveThousand: the unary list says which call has room for it, and that one delivers each once.
func TestFiveThousand(t *testing.T) {
	const n = 5000
	d, pod, _ := filled(t, n)
	rt := d.Conn().Runtime
	_, err := rt.ListContainers(daemontest.Ctx(t), &v1.ListContainersRequest{})
	if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "call StreamContainers") {
		t.Errorf("the list: %v", err)
	}
	begin := time.Now()
	s, err := rt.StreamContainers(daemontest.Ctx(t), &v1.StreamContainersRequest{Filter: &v1.ContainerFilter{PodSandboxId: pod[:13]}})
	if err != nil {
		t.Fatal(err)
	}
	seen, messages, largest := map[string]bool{}, 0, 0
	for {
		r, err := s.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Containers) == 0 {
			t.Error("a message without a container")
		}
		messages, largest = messages+1, max(largest, proto.Size(r))
		for _, c := range r.Containers {
			if seen[c.Id] || len(c.Annotations["k"]) != 4095 {
				t.Fatalf("container %s: seen before: %v, annotations of %d bytes", c.Id, seen[c.Id], len(c.Annotations["k"]))
			}
			seen[c.Id] = true
		}
	}
	if len(seen) != n || largest > 2<<20 {
		t.Errorf("%d containers came, of %d, in messages of up to %d bytes", len(seen), n, largest)
	}
	t.Logf("%d containers in %d messages of up to %d bytes, %v", len(seen), messages, largest, time.Since(begin).Round(time.Millisecond))
}

// BenchmarkQuestions measures, with 500 containers, what the kubelet asks all the time: p50 and p99 in ms of each call.
func BenchmarkQuestions(b *testing.B) {
	d, pod, one := filled(b, 500)
	rt := d.Conn().Runtime
	for name, ask := range map[string]func(ctx context.Context) error{
		"ListContainers": func(ctx context.Context) error {
			_, err := rt.ListContainers(ctx, &v1.ListContainersRequest{})
			return err
		},
		"ListPodSandbox": func(ctx context.Context) error {
			_, err := rt.ListPodSandbox(ctx, &v1.ListPodSandboxRequest{})
			return err
		},
		"ContainerStatus": func(ctx context.Context) error {
			_, err := rt.ContainerStatus(ctx, &v1.ContainerStatusRequest{ContainerId: one})
			return err
		},
		"PodSandboxStatus, of all": func(ctx context.Context) error {
			_, err := rt.PodSandboxStatus(ctx, &v1.PodSandboxStatusRequest{PodSandboxId: pod})
			return err
		},
		"Status": func(ctx context.Context) error { _, err := rt.Status(ctx, &v1.StatusRequest{}); return err },
	} {
		b.Run(name, func(b *testing.B) {
			ctx := context.Background()
			var took []time.Duration
			for b.Loop() {
				begin := time.Now()
				if err := ask(ctx); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(begin))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
}
