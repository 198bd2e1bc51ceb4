package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"golang.org/x/term"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/cmd/runtimed/client"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// use is a line of the statistics; its JSON is for programs, and only ever grows. What is not known is left out.
type use struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Namespace string `json:"namespace,omitempty"` // of a pod
	// NanoCores is processor time per second since the reading before, in ns.
	NanoCores  *uint64 `json:"nanoCores,omitempty"`
	CPUTotal   uint64  `json:"cpuTotalNs"`
	Memory     uint64  `json:"memoryBytes"`
	WorkingSet uint64  `json:"workingSetBytes"`
	Limit      *uint64 `json:"memoryLimitBytes,omitempty"`
	Swap       *uint64 `json:"swapBytes,omitempty"`
	Disk       *uint64 `json:"diskBytes,omitempty"` // of the writable layer
	Inodes     *uint64 `json:"diskInodes,omitempty"`
	Received   *uint64 `json:"receivedBytes,omitempty"` // by the pod's first link
	Sent       *uint64 `json:"sentBytes,omitempty"`
	Processes  *uint64 `json:"processes,omitempty"` // of a pod
	at         int64
}

type statsFlags struct {
	once     bool
	pods     bool
	output   string
	interval time.Duration
}

func statsCommand(g *globals) *cobra.Command {
	var f statsFlags
	cmd := &cobra.Command{
		Use: "stats [CONTAINER…]", Short: "Show what running containers, or pods, use",
		Long: "Show what running containers, or pods, use, again and again until it is interrupted.\n\n" +
			"CPU is the share of one core between two readings. Disk is the writable layer. Names or ids select lines.",
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.interval < 100*time.Millisecond {
				return spec.Invalidf("--interval %v is shorter than 100ms", f.interval)
			}
			return g.with(cmd, func(ctx context.Context, c *client.Client) error { return f.show(ctx, c, cmd.OutOrStdout(), args) })
		},
	}
	cmd.Flags().BoolVar(&f.once, "no-stream", false, "print one table, after one interval")
	cmd.Flags().BoolVarP(&f.pods, "pods", "p", false, "pods instead of containers")
	cmd.Flags().DurationVar(&f.interval, "interval", time.Second, "time between two readings")
	outputFlag(cmd, &f.output)
	return cmd
}

// show reads and prints until ctx ends; its end is no error.
func (f statsFlags) show(ctx context.Context, c *client.Client, w io.Writer, names []string) error {
	before := map[string]use{}
	for first := true; ; first = false {
		rows, err := f.read(ctx, c, names)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return c.Explain("statistics", err)
		}
		for i := range rows {
			rows[i].since(before[rows[i].ID])
		}
		if !first {
			if err := f.print(w, rows); err != nil || f.once {
				return err
			}
		}
		clear(before)
		for _, r := range rows {
			before[r.ID] = r
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(f.interval):
		}
	}
}

// since averages the processor time between two readings.
func (u *use) since(before use) {
	if window := u.at - before.at; before.at != 0 && window > 0 && u.CPUTotal >= before.CPUTotal {
		n := uint64(float64(u.CPUTotal-before.CPUTotal) / float64(window) * 1e9)
		u.NanoCores = &n
	}
}

func (f statsFlags) read(ctx context.Context, c *client.Client, names []string) (rows []use, err error) {
	rows = []use{}
	if f.pods {
		r, err := c.Runtime.ListPodSandboxStats(ctx, &v1.ListPodSandboxStatsRequest{})
		if err != nil {
			return nil, err
		}
		for _, s := range r.Stats {
			rows = append(rows, podUse(s))
		}
	} else {
		r, err := c.Runtime.ListContainerStats(ctx, &v1.ListContainerStatsRequest{})
		if err != nil {
			return nil, err
		}
		for _, s := range r.Stats {
			rows = append(rows, containerUse(s))
		}
	}
	return chosen(rows, names)
}

// chosen are the lines that a name or the beginning of an id selects; all without names.
func chosen(rows []use, names []string) ([]use, error) {
	if len(names) == 0 {
		return rows, nil
	}
	found := map[string]bool{}
	rows = slices.DeleteFunc(rows, func(u use) bool {
		keep := false
		for _, n := range names {
			if n != "" && (u.Name == n || strings.HasPrefix(u.ID, n)) {
				keep, found[n] = true, true
			}
		}
		return !keep
	})
	for _, n := range names {
		if !found[n] {
			return nil, spec.Errorf(errdefs.ErrNotFound, "nothing that runs is called %q", n)
		}
	}
	return rows, nil
}

func value64(v *v1.UInt64Value) *uint64 {
	if v == nil {
		return nil
	}
	return &v.Value
}

func containerUse(s *v1.ContainerStats) use {
	u := use{ID: s.GetAttributes().GetId(), Name: s.GetAttributes().GetMetadata().GetName(), Swap: value64(s.GetSwap().GetSwapUsageBytes()),
		Disk: value64(s.GetWritableLayer().GetUsedBytes()), Inodes: value64(s.GetWritableLayer().GetInodesUsed())}
	u.common(s.GetCpu(), s.GetMemory())
	return u
}

func podUse(s *v1.PodSandboxStats) use {
	m, l := s.GetAttributes().GetMetadata(), s.GetLinux()
	u := use{ID: s.GetAttributes().GetId(), Name: m.GetName(), Namespace: m.GetNamespace(), Processes: value64(l.GetProcess().GetProcessCount()),
		Received: value64(l.GetNetwork().GetDefaultInterface().GetRxBytes()), Sent: value64(l.GetNetwork().GetDefaultInterface().GetTxBytes())}
	u.common(l.GetCpu(), l.GetMemory())
	return u
}

func (u *use) common(c *v1.CpuUsage, m *v1.MemoryUsage) {
	u.at, u.CPUTotal = c.GetTimestamp(), c.GetUsageCoreNanoSeconds().GetValue()
	u.Memory, u.WorkingSet = m.GetUsageBytes().GetValue(), m.GetWorkingSetBytes().GetValue()
	if a := m.GetAvailableBytes(); a != nil {
		limit := a.Value + u.WorkingSet
		u.Limit = &limit
	}
}

// clearScreen is the terminal's: cursor home, erase below.
const clearScreen = "\x1b[H\x1b[J"

func (f statsFlags) print(w io.Writer, rows []use) error {
	if f.output == "json" {
		if f.once {
			return printJSON(w, rows)
		}
		return json.NewEncoder(w).Encode(rows) // one reading, one line
	}
	if !f.once && isTerminal(w) {
		fmt.Fprint(w, clearScreen)
	}
	if f.pods {
		t := table(w, "POD", "NAME", "NAMESPACE", "CPU", "MEMORY / LIMIT", "WORKING SET", "RECEIVED / SENT", "PROCESSES")
		for _, r := range rows {
			t.row(client.Short(r.ID), r.Name, r.Namespace, percent(r.NanoCores), r.memory(), size(&r.WorkingSet), size(r.Received)+" / "+size(r.Sent), count(r.Processes))
		}
		return t.Flush()
	}
	t := table(w, "CONTAINER", "NAME", "CPU", "MEMORY / LIMIT", "WORKING SET", "SWAP", "DISK", "INODES")
	for _, r := range rows {
		t.row(client.Short(r.ID), r.Name, percent(r.NanoCores), r.memory(), size(&r.WorkingSet), size(r.Swap), size(r.Disk), count(r.Inodes))
	}
	return t.Flush()
}

func (u use) memory() string { return size(&u.Memory) + " / " + size(u.Limit) }

func percent(nano *uint64) string {
	if nano == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f%%", float64(*nano)/1e7)
}

func size(n *uint64) string {
	if n == nil {
		return "-"
	}
	return units.BytesSize(float64(*n))
}

func count(n *uint64) string {
	if n == nil {
		return "-"
	}
	return fmt.Sprint(*n)
}

// isTerminal tells whether a person looks.
func isTerminal(w io.Writer) bool {
	if p, ok := w.(*printer); ok {
		w = p.Writer
	}
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
