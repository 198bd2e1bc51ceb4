package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/cgroups/v3/cgroup1"
	stats1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	"github.com/containerd/cgroups/v3/cgroup2"
	stats2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// errGone is what the kernel says to a read of a file whose group was removed after it was opened.
var errGone = unix.ENODEV

// pageLimit: a v1 limit at or beyond it, the largest count of whole pages, is none.
const pageLimit = uint64(1)<<63 - 1 - (1<<16 - 1)

func limit(n uint64) uint64 {
	if n >= pageLimit {
		return spec.Unlimited
	}
	return n
}

func (m *Manager) useUnified(path string, u *spec.GroupUse) error {
	g, err := cgroup2.Load(path, cgroup2.WithMountpoint(m.node.Unified))
	if err != nil {
		return err
	}
	s, err := g.StatFiltered(cgroup2.StatCPU | cgroup2.StatMemory | cgroup2.StatMemoryEvents | cgroup2.StatPids | cgroup2.StatIO)
	if err != nil {
		return err
	}
	unifiedUse(s, u)
	dir := filepath.Join(m.node.Unified, path)
	if !exists(filepath.Join(dir, "memory.current")) {
		u.Memory, u.Swap = nil, nil
	} else if !exists(filepath.Join(dir, "memory.swap.current")) {
		u.Swap = nil
	}
	if !exists(filepath.Join(dir, "pids.current")) {
		u.Tasks = nil
	}
	u.IOStall, err = stallsOf(filepath.Join(dir, "io.pressure"))
	return err
}

// unifiedUse takes over what the library read.
func unifiedUse(s *stats2.Metrics, u *spec.GroupUse) {
	if c := s.CPU; c != nil {
		u.CPU = spec.CPUUse{
			Total: usec(c.UsageUsec), User: usec(c.UserUsec), System: usec(c.SystemUsec),
			Periods: c.NrPeriods, Throttled: c.NrThrottled, ThrottledFor: usec(c.ThrottledUsec),
		}
		u.CPUStall = stalls(c.PSI)
	}
	if p := s.Pids; p != nil {
		u.Tasks = &spec.TasksUse{Current: p.Current, Limit: limit(p.Limit)}
	}
	v := s.Memory
	if v == nil {
		return
	}
	u.Memory = &spec.MemoryUse{
		Usage: v.Usage, Limit: limit(v.UsageLimit), MaxUsage: v.MaxUsage,
		RSS: v.Anon, Cache: v.File, Mapped: v.FileMapped, Kernel: v.KernelStack + v.Slab,
		ActiveFile: v.ActiveFile, InactiveFile: v.InactiveFile, PageFaults: v.Pgfault, MajorFaults: v.Pgmajfault,
	}
	u.Swap = &spec.SwapUse{Usage: v.SwapUsage, Limit: limit(v.SwapLimit)}
	u.MemoryStall = stalls(v.PSI)
	if e := s.MemoryEvents; e != nil {
		u.Memory.Failures, u.Memory.OOMKills = e.Max, e.OomKill
	}
	if s.Io == nil {
		return
	}
	for _, d := range s.Io.Usage {
		u.Devices = append(u.Devices, spec.DeviceUse{
			Device: deviceName(d.Major, d.Minor), Major: d.Major, Minor: d.Minor,
			ReadBytes: d.Rbytes, WriteBytes: d.Wbytes, ReadCount: d.Rios, WriteCount: d.Wios,
		})
	}
}

func usec(n uint64) time.Duration { return time.Duration(n) * time.Microsecond }

func stalls(p *stats2.PSIStats) *spec.Stalls {
	if p == nil {
		return nil
	}
	one := func(d *stats2.PSIData) spec.Stall {
		if d == nil {
			return spec.Stall{}
		}
		return spec.Stall{Total: usec(d.Total), Avg10: d.Avg10, Avg60: d.Avg60, Avg300: d.Avg300}
	}
	return &spec.Stalls{Some: one(p.Some), Full: one(p.Full)}
}

// useLegacy reads the v1 hierarchies, and the stalls from the unified one beside them.
func (m *Manager) useLegacy(path string, u *spec.GroupUse) error {
	s := &stats1.Metrics{CPU: &stats1.CPUStat{Throttling: &stats1.Throttle{}, Usage: &stats1.CPUUsage{}}}
	for _, c := range m.readers() {
		if err := c.Stat(path, s); err != nil {
			return err
		}
	}
	legacyUse(s, u)
	if m.node.Unified == "" {
		return nil
	}
	dir := filepath.Join(m.node.Unified, path)
	var err [3]error
	u.CPUStall, err[0] = stallsOf(filepath.Join(dir, "cpu.pressure"))
	u.MemoryStall, err[1] = stallsOf(filepath.Join(dir, "memory.pressure"))
	u.IOStall, err[2] = stallsOf(filepath.Join(dir, "io.pressure"))
	return errors.Join(err[:]...)
}

type reader interface {
	Stat(path string, s *stats1.Metrics) error
}

// readers are the library's controllers that this node has. Processor time comes first: the reading's
// moment is its.
func (m *Manager) readers() []reader {
	root := m.node.Root
	var out []reader
	add := func(name string, make func() reader) {
		if m.node.has(name) {
			out = append(out, make())
		}
	}
	add("cpuacct", func() reader { return cgroup1.NewCpuacct(root) })
	add("cpu", func() reader { return cgroup1.NewCpu(root) })
	add("pids", func() reader { return cgroup1.NewPids(root) })
	add("blkio", func() reader { return cgroup1.NewBlkio(root) })
	add("memory", func() reader {
		ignored := []string{"kmem.tcp"}
		dir, _ := m.node.dir("memory")
		if !exists(filepath.Join(dir, "memory.memsw.usage_in_bytes")) {
			ignored = append(ignored, "memsw")
		}
		if !exists(filepath.Join(dir, "memory.kmem.limit_in_bytes")) {
			ignored = append(ignored, "kmem")
		}
		return cgroup1.NewMemory(root, cgroup1.IgnoreModules(ignored...))
	})
	return out
}

// legacyUse takes over what the library read. The values of memory.stat that begin with total_ hold the groups below.
func legacyUse(s *stats1.Metrics, u *spec.GroupUse) {
	u.CPU = spec.CPUUse{
		Total: time.Duration(s.CPU.Usage.Total), User: time.Duration(s.CPU.Usage.User), System: time.Duration(s.CPU.Usage.Kernel),
		Periods: s.CPU.Throttling.Periods, Throttled: s.CPU.Throttling.ThrottledPeriods,
		ThrottledFor: time.Duration(s.CPU.Throttling.ThrottledTime),
	}
	if p := s.Pids; p != nil {
		u.Tasks = &spec.TasksUse{Current: p.Current, Limit: limit(p.Limit)}
		if p.Limit == 0 { // "max"; a limit of none at all cannot be reached by a group with a process in it
			u.Tasks.Limit = spec.Unlimited
		}
	}
	if v := s.Memory; v != nil {
		u.Memory = &spec.MemoryUse{
			Usage: v.Usage.Usage, Limit: limit(v.Usage.Limit), MaxUsage: v.Usage.Max, Failures: v.Usage.Failcnt,
			RSS: v.TotalRSS, Cache: v.TotalCache, Mapped: v.TotalMappedFile, Kernel: v.Kernel.GetUsage(),
			ActiveFile: v.TotalActiveFile, InactiveFile: v.TotalInactiveFile,
			PageFaults: v.TotalPgFault, MajorFaults: v.TotalPgMajFault, OOMKills: s.MemoryOomControl.GetOomKill(),
		}
		u.Swap = legacySwap(v)
	}
	u.Devices = legacyDevices(s.Blkio)
}

// legacySwap tells swap from memory and swap together, which is all that v1 counts. Where that is not counted (it is
// then all zero, and memory is not) there is none.
func legacySwap(v *stats1.MemoryStat) *spec.SwapUse {
	if v.Swap.GetLimit() == 0 && v.Swap.GetUsage() == 0 {
		return nil
	}
	return swapOf(v.Usage.Usage, v.Usage.Limit, v.Swap.Usage, v.Swap.Limit)
}

// swapOf takes memory from memory and swap together.
func swapOf(memory, memoryLimit, both, bothLimit uint64) *spec.SwapUse {
	out := &spec.SwapUse{Limit: spec.Unlimited}
	if both > memory {
		out.Usage = both - memory
	}
	if most, memory := limit(bothLimit), limit(memoryLimit); most != spec.Unlimited && memory != spec.Unlimited {
		out.Limit = most - min(memory, most)
	}
	return out
}

func legacyDevices(b *stats1.BlkIOStat) []spec.DeviceUse {
	var out []spec.DeviceUse
	at := func(e *stats1.BlkIOEntry) *spec.DeviceUse {
		for i := range out {
			if out[i].Major == e.Major && out[i].Minor == e.Minor {
				return &out[i]
			}
		}
		out = append(out, spec.DeviceUse{Device: deviceName(e.Major, e.Minor), Major: e.Major, Minor: e.Minor})
		return &out[len(out)-1]
	}
	for _, e := range b.GetIoServiceBytesRecursive() {
		switch e.Op {
		case "Read":
			at(e).ReadBytes = e.Value
		case "Write":
			at(e).WriteBytes = e.Value
		}
	}
	for _, e := range b.GetIoServicedRecursive() {
		switch e.Op {
		case "Read":
			at(e).ReadCount = e.Value
		case "Write":
			at(e).WriteCount = e.Value
		}
	}
	return out
}

// deviceName is a block device's name, or its numbers where it has none.
func deviceName(major, minor uint64) string {
	numbers := strconv.FormatUint(major, 10) + ":" + strconv.FormatUint(minor, 10)
	link, err := os.Readlink("/sys/dev/block/" + numbers)
	if err != nil {
		return numbers
	}
	return "/dev/" + filepath.Base(link)
}

// stallsOf reads a pressure file. A kernel without them, or with them off, has none.
func stallsOf(file string) (*spec.Stalls, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseStalls(string(b))
}

// parseStalls reads "some avg10=0.00 avg60=0.00 avg300=0.00 total=0" and the same for "full".
func parseStalls(text string) (*spec.Stalls, error) {
	out := &spec.Stalls{}
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		var into *spec.Stall
		switch words[0] {
		case "some":
			into = &out.Some
		case "full":
			into = &out.Full
		default:
			continue
		}
		for _, w := range words[1:] {
			key, value, _ := strings.Cut(w, "=")
			if err := setStall(into, key, value); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

func setStall(s *spec.Stall, key, value string) (err error) {
	switch key {
	case "avg10":
		s.Avg10, err = strconv.ParseFloat(value, 64)
	case "avg60":
		s.Avg60, err = strconv.ParseFloat(value, 64)
	case "avg300":
		s.Avg300, err = strconv.ParseFloat(value, 64)
	case "total":
		var n uint64
		n, err = strconv.ParseUint(value, 10, 53)
		s.Total = usec(n)
	}
	return err
}
