package e2e

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/integration/daemontest"
)

func TestExecSync(t *testing.T) {
	d := started(t, daemontest.Options{})
	pod, id, p := oneContainer(t, d, "exec")
	exec := func(timeout int64, cmd ...string) (*v1.ExecSyncResponse, error) {
		return d.Conn().Runtime.ExecSync(daemontest.Ctx(t), &v1.ExecSyncRequest{ContainerId: id, Cmd: cmd, Timeout: timeout})
	}
	for _, c := range []struct {
		cmd            []string
		code           int32
		stdout, stderr string
	}{
		{[]string{"true"}, 0, "", ""},
		{[]string{"sh", "-c", "echo out; echo err >&2; exit 7"}, 7, "out\n", "err\n"},
		{[]string{"sh", "-c", "exit 126"}, 126, "", ""},
		{[]string{"sh", "-c", "exit 127"}, 127, "", ""},
		{[]string{"sh", "-c", "kill -9 $$"}, 137, "", ""},
		{[]string{"printf", "no newline"}, 0, "no newline", ""},
		{[]string{"cat"}, 0, "", ""}, // stdin is at its end
	} {
		r, err := exec(10, c.cmd...)
		if err != nil || r.ExitCode != c.code || string(r.Stdout) != c.stdout || string(r.Stderr) != c.stderr {
			t.Errorf("%q: %v, %v", c.cmd, r, err)
		}
	}
	for cmd, code := range map[string]int32{"/no/such/program": 127, "/data/seed": 126} {
		if r, err := exec(10, cmd); err != nil || r.ExitCode != code || !strings.Contains(string(r.Stderr), cmd) {
			t.Errorf("%s: %v, %v", cmd, r, err)
		}
	}

	t.Run("timeout", func(t *testing.T) {
		begin := time.Now()
		_, err := exec(1, "sh", "-c", "sleep 4321 & (trap '' TERM; sleep 4322) & sleep 4323")
		if took := time.Since(begin); status.Code(err) != codes.DeadlineExceeded || took < time.Second || took > 4*time.Second {
			t.Errorf("after %v: %v", took, err)
		}
		if got := d.Exec(id, "ps -o args | grep -c '^sleep 432' || true"); got != "0" {
			t.Errorf("%s processes of the session are left", got)
		}
	})
	t.Run("an orphan that holds the pipes", func(t *testing.T) {
		within(t, 5*time.Second, "the call", func() {
			r, err := exec(30, "sh", "-c", "sleep 99 & echo done")
			if err != nil || string(r.Stdout) != "done\n" {
				t.Errorf("%v, %v", r, err)
			}
		})
	})
	t.Run("too much output", func(t *testing.T) {
		r, err := exec(60, "sh", "-c", "dd if=/dev/zero bs=1M count=20 2>/dev/null; echo all written >&2")
		// The answer is one message of 16 MiB at most, so that a kubelet takes it.
		if err != nil || len(r.Stdout) > 16<<20 || len(r.Stdout) < 16<<20-1024 || !bytes.Equal(r.Stderr, []byte("all written\n")) {
			t.Errorf("%d bytes, %q, %v", len(r.GetStdout()), r.GetStderr(), err)
		}
	})
	t.Run("no one is left", func(t *testing.T) {
		for _, q := range daemontest.Processes() {
			if q.State == "Z" && q.PPID != 1 {
				t.Errorf("a dead process waits to be reaped: %+v", q)
			}
		}
	})
	t.Run("not running", func(t *testing.T) {
		ended := d.RunContainer(pod, p, d.ContainerConfig("ended", "true"))
		d.Ended(ended)
		for _, id := range []string{ended, d.Create(pod, p, d.ContainerConfig("created", "true"))} {
			_, err := d.Conn().Runtime.ExecSync(daemontest.Ctx(t), &v1.ExecSyncRequest{ContainerId: id, Cmd: []string{"true"}})
			if status.Code(err) != codes.FailedPrecondition {
				t.Errorf("%v", err)
			}
		}
	})
}
