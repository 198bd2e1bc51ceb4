package supervise_test

import (
	"bufio"
	"bytes"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"
)

// BenchmarkMemory reports what a quiet monitor takes after its container logged 100 MB: the median of 20, in KiB.
func BenchmarkMemory(b *testing.B) {
	const monitors, bytes = 20, 100_000_000
	for b.Loop() {
		var boxes []*box
		for range monitors {
			x := start(b, plan{Script: "yes 'a line of a hundred bytes, as a program may write it, with a time and a word or two at the end' | head -c " + itoa(bytes) + "; sleep 600"})
			eventually(b, "100 MB are logged", func() bool { return x.ask("1 stats") == "1 ok read "+itoa(bytes)+" lost 0" })
			os.Truncate(x.log, 0)
			boxes = append(boxes, x)
		}
		time.Sleep(3 * time.Second) // they give their buffers back
		var pss, dirty []int
		for _, x := range boxes {
			p, d := x.memory()
			pss, dirty = append(pss, p), append(dirty, d)
		}
		slices.Sort(pss)
		slices.Sort(dirty)
		b.ReportMetric(float64(pss[monitors/2]), "KiB-PSS")
		b.ReportMetric(float64(pss[monitors-1]), "KiB-PSS-max")
		b.ReportMetric(float64(dirty[monitors/2]), "KiB-private-dirty")
		for _, x := range boxes {
			x.stop()
		}
	}
}

// memory is the monitor's share of memory and what is its alone, in KiB.
func (b *box) memory() (pss, dirty int) {
	text, err := os.ReadFile("/proc/" + itoa(b.cmd.Process.Pid) + "/smaps_rollup")
	if err != nil {
		b.t.Fatal(err)
	}
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		f := bytes.Fields(s.Bytes())
		if len(f) < 2 {
			continue
		}
		n, _ := strconv.Atoi(string(f[1]))
		switch string(f[0]) {
		case "Pss:":
			pss = n
		case "Private_Dirty:":
			dirty = n
		}
	}
	return pss, dirty
}

// BenchmarkLog writes 1 GB through a real pipe and monitor to a file: MB/s as the container sees it, and the monitor's
// CPU seconds for a GB of output.
func BenchmarkLog(b *testing.B) {
	const input, times = 100_000_000, 10
	for name, line := range map[string]int{"100B": 100, "1KiB": 1024, "unbroken": input} {
		b.Run(name, func(b *testing.B) {
			path := b.TempDir() + "/input"
			text := bytes.Repeat(append(bytes.Repeat([]byte{'x'}, line-1), '\n'), input/line)
			if err := os.WriteFile(path, text, 0o600); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(text)) * times)
			cpu := 0.0
			for b.Loop() {
				x := start(b, plan{Script: "for i in 1 2 3 4 5 6 7 8 9 10; do cat " + path + "; done"})
				x.wait()
				st := x.cmd.ProcessState
				cpu += (st.UserTime() + st.SystemTime()).Seconds()
				os.Remove(x.log)
			}
			b.ReportMetric(cpu/float64(b.N)/(float64(len(text))*times/1e9), "CPUs/GB")
		})
	}
}
