package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/launch"
	"github.com/runtimed/runtimed/pkg/sandbox/launch/wire"
	"github.com/runtimed/runtimed/pkg/sandbox/monitor"
)

// TestStartTime reports, with the binaries as they are shipped, what one Start takes from the daemon's call to the
// program's go, and one exec of true. It asserts nothing: bench-quick compares.
func TestStartTime(t *testing.T) {
	if os.Getenv("RUNTIMED_TEST_TIME") == "" {
		t.Log("set RUNTIMED_TEST_TIME to measure")
		return
	}
	h := newHost(t)
	bin := t.TempDir()
	build := exec.Command("true")
	build.Stderr = os.Stderr
	must(t, exec.Command("cp", "/tmp/shimprof/runtimed-shim", bin).Run())
	must(t, exec.Command("cp", filepath.Join(built, monitor.Binary), bin).Run())
	l, err := launch.New(launch.Options{Program: filepath.Join(bin, wire.Binary)})
	must(t, err)
	h.launcher.Close()
	h.launcher = l
	p := h.newPod(true)
	const rounds = 40
	var starts, execs []time.Duration
	for range rounds {
		c := p.newContainer("sleep", "1000")
		c.write()
		begin := time.Now()
		must(t, c.start(t.Context()))
		starts = append(starts, time.Since(begin))
		begin = time.Now()
		_, err := c.exec(0, "true")
		must(t, err)
		execs = append(execs, time.Since(begin))
		unix.Kill(c.started().Init.PID, unix.SIGKILL)
		c.exit()
	}
	t.Logf("start: median %v; exec: median %v (of %d)", median(starts), median(execs), rounds)
}

func median(d []time.Duration) time.Duration {
	for i := range d { // few enough
		for j := range d[:i] {
			if d[i] < d[j] {
				d[i], d[j] = d[j], d[i]
			}
		}
	}
	return d[len(d)/2].Round(10 * time.Microsecond)
}
