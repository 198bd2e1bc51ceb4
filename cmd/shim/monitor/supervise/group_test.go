package supervise_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const unified, memory = "/sys/fs/cgroup/unified", "/sys/fs/cgroup/memory"

// group makes a cgroup of this test's own.
func group(t *testing.T, hierarchy string) string {
	t.Helper()
	dir := filepath.Join(hierarchy, "runtimed-test-monitor-"+itoa(os.Getpid())+"-"+strings.ReplaceAll(t.Name(), "/", "-"))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		eventually(t, "the group "+dir+" is empty", func() bool { return len(procs(dir)) == 0 })
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func procs(group string) []string {
	text, _ := os.ReadFile(group + "/cgroup.procs")
	return strings.Fields(string(text))
}

// With another PID namespace than its own, init's children outlive it; they hold its output and must not.
func TestLeftChildrenAreKilled(t *testing.T) {
	for name, c := range map[string]struct {
		children int
		args     func(p *plan, unified, memory string)
	}{
		"cgroup.kill": {3, func(p *plan, u, m string) { p.Args.KillFiles = []string{u + "/cgroup.kill"} }},
		"one by one":  {3, func(p *plan, u, m string) { p.Args.ProcsFiles = []string{m + "/cgroup.procs"} }},
		"many one by one": {600, func(p *plan, u, m string) {
			p.Args.ProcsFiles = []string{m + "/cgroup.procs", u + "/cgroup.procs"}
		}},
		"no cgroup.kill": {3, func(p *plan, u, m string) {
			p.Args.KillFiles, p.Args.ProcsFiles = []string{u + "/none/cgroup.kill"}, []string{u + "/cgroup.procs"}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			u, m := group(t, unified), group(t, memory)
			p := plan{
				Script: "i=0; while [ $i -lt " + itoa(c.children) + " ]; do sleep 1000 & i=$((i+1)); done; echo all; exit 6",
				Groups: []string{u + "/cgroup.procs", m + "/cgroup.procs"},
			}
			c.args(&p, u, m)
			b := start(t, p)
			if e := b.wait(); e.Code != 6 {
				t.Errorf("got %+v", e)
			}
			if got := b.untimed(); got != "stdout F all\n" {
				t.Errorf("log %q", got)
			}
			eventually(t, "the children are dead", func() bool { return len(procs(u)) == 0 })
		})
	}
}

// Who holds the output from outside of the group does not keep the exit from being stated.
func TestHeldOutput(t *testing.T) {
	b := start(t, plan{Script: "sleep 1000 & echo $!; exit 3"})
	begin := time.Now()
	e := b.wait()
	pid, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(b.untimed(), "stdout F ")))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(pid, syscall.SIGKILL)
	if e.Code != 3 || procState(pid) == 0 {
		t.Errorf("got %+v", e)
	}
	t.Logf("ended after %v", time.Since(begin))
}

func TestOOM(t *testing.T) {
	m := group(t, memory)
	for _, name := range []string{"memory.limit_in_bytes", "memory.memsw.limit_in_bytes"} {
		if err := os.WriteFile(m+"/"+name, []byte("33554432"), 0); err != nil {
			t.Fatal(err)
		}
	}
	p := plan{Script: "exec tail /dev/zero", Groups: []string{m + "/cgroup.procs"}}
	p.Args.OOMFile, p.Args.ProcsFiles = m+"/memory.oom_control", []string{m + "/cgroup.procs"}
	if e := start(t, p).wait(); e.Code != 137 || !e.OOMKilled || e.Why() != "OOMKilled" {
		t.Errorf("got %+v", e)
	}
	p.Script = "exit 1" // the counter does not grow
	if e := start(t, p).wait(); e.Code != 1 || e.OOMKilled {
		t.Errorf("got %+v", e)
	}
	// version 2's file, as it looks
	p.Args.OOMFile = t.TempDir() + "/memory.events"
	os.WriteFile(p.Args.OOMFile, []byte("low 0\noom 1\noom_kill 1\noom_group_kill 0\n"), 0o600)
	p.Script = "printf 'oom 3\noom_kill 2\n' > " + p.Args.OOMFile + "; exit 137"
	if e := start(t, p).wait(); e.Code != 137 || !e.OOMKilled {
		t.Errorf("got %+v", e)
	}
}
