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
