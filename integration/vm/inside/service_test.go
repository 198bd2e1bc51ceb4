package inside

import (
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/runtimed/runtimed/integration/daemontest"
	"github.com/runtimed/runtimed/integration/registrytest"
)

// property of the service.
func property(t *testing.T, name string) string {
	t.Helper()
	return sh(t, "systemctl show -P "+name+" runtimed.service")
}

// cgroupOf a process, below the mount point.
func cgroupOf(t *testing.T, pid string) string {
	t.Helper()
	b, err := os.ReadFile("/proc/" + pid + "/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	_, at, _ := strings.Cut(strings.TrimSpace(string(b)), "::")
	return at
}

// again waits until another process is the service's than the one given, and answers.
func again(t *testing.T, before string) {
	t.Helper()
	daemontest.Eventually(t, 2*time.Minute, func() error {
		now := property(t, "MainPID")
		if now == before || now == "0" || property(t, "ActiveState") != "active" {
			return fmt.Errorf("the service is %s with process %s, before it was %s", property(t, "ActiveState"), now, before)
		}
		return nil
	})
	sh(t, "runtimed ps")
}

// TestService: what make install has put in place, under systemd.
func TestService(t *testing.T) {
	reg := registrytest.New(t, registrytest.Options{})
	reg.MustPush(t, "busybox:1", daemontest.Busybox(t))
	image := reg.Ref("busybox:1")
	if err := os.WriteFile("/etc/runtimed/config.toml", []byte("version = 1\n[trust]\nmode = \"off\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	sh(t, "mkdir -p /run/systemd/system/runtimed.service.d && printf '[Service]\\nWatchdogSec=15\\nTimeoutAbortSec=2\\n' >/run/systemd/system/runtimed.service.d/test.conf && systemctl daemon-reload")
	sh(t, "systemctl start runtimed || { journalctl -u runtimed --no-pager; exit 1; }")
	if got := property(t, "ActiveState"); got != "active" {
		t.Fatalf("the service is %s", got)
	}
	if got := sh(t, "crictl runtime-config"); !strings.Contains(got, "SYSTEMD") && !strings.Contains(got, "0") {
		t.Errorf("the driver for a kubelet: %s", got)
	}
	sh(t, "runtimed pull "+image)
	sh(t, "runtimed run -d --name web --memory 64m "+image+" sh -c 'while :; do sleep 1000; done'")
	pid := sh(t, `runtimed inspect web | jq -r '.. | .InitPID? // .pid? // empty' | head -n1; true`)
	if _, err := strconv.Atoi(pid); err != nil {
		pid = sh(t, `pgrep -f -o 'sh -c while :; do sleep 1000'`)
	}
	group := cgroupOf(t, pid)
	if path.Ext(group) != ".scope" || path.Ext(path.Dir(group)) != ".slice" || !strings.HasPrefix(group, "/runtimed.slice/runtimed-pods.slice/") {
		t.Errorf("the container's group is %s", group)
	}
	shim := sh(t, "pgrep -o runtimed-monit")
	if got := cgroupOf(t, shim); !strings.HasPrefix(got, "/runtimed.slice/runtimed-shims.slice/runtimed-") || !strings.HasSuffix(got, "-shim.scope") {
		t.Errorf("the shim's group is %s", got)
	}
	limit := func() string { return sh(t, "cat /sys/fs/cgroup"+group+"/memory.max") }
	if got := limit(); got != "67108864" {
		t.Errorf("memory.max is %s", got)
	}
	sh(t, "systemctl daemon-reload")
	if got := limit(); got != "67108864" {
		t.Errorf("memory.max is %s after systemctl daemon-reload", got)
	}

	alive := func(after string) {
		t.Helper()
		if _, err := os.Stat("/proc/" + pid); err != nil {
			t.Fatalf("after %s the container is gone", after)
		}
		if got := sh(t, "runtimed ps"); !strings.Contains(got, "web") || !strings.Contains(got, "running") {
			t.Errorf("after %s: %s", after, got)
		}
		if got := sh(t, "runtimed exec web cat /proc/1/cgroup"); got != "0::/" {
			t.Errorf("after %s the container says it is in %q", after, got)
		}
	}
	main := property(t, "MainPID")
	sh(t, "systemctl restart runtimed")
	again(t, main)
	alive("a restart")

	main = property(t, "MainPID")
	sh(t, "kill -9 "+main)
	again(t, main)
	alive("kill -9")

	main = property(t, "MainPID")
	sh(t, "kill -STOP "+main)
	begin := time.Now()
	again(t, main)
	t.Logf("a daemon that hangs was replaced after %v (WatchdogSec=15)", time.Since(begin).Round(100*time.Millisecond))
	alive("a hang")
	if got := sh(t, "journalctl -u runtimed --no-pager | grep -ci watchdog"); got == "0" {
		t.Error("the journal does not speak of the watchdog")
	}

	sh(t, "systemctl stop runtimed")
	if _, err := os.Stat("/proc/" + pid); err != nil {
		t.Fatal("the container ended with the service")
	}
	sh(t, "systemctl start runtimed")
	alive("a stop and a start")

	// An idle daemon feeds its watchdog.
	main = property(t, "MainPID")
	time.Sleep(20 * time.Second)
	if got := property(t, "MainPID"); got != main {
		t.Error("a daemon that works was restarted by the watchdog")
	}
	sh(t, "runtimed stop -t 1 web || runtimed stop web; runtimed rm web")
	daemontest.Eventually(t, 10*time.Second, func() error {
		if left := sh(t, "systemctl list-units --all --plain --no-legend 'runtimed-*.scope' 'runtimed-pods-*.slice'"); left != "" {
			return fmt.Errorf("units are left:\n%s", left)
		}
		return nil
	})
	sh(t, "runtimed doctor --leaks")
	sh(t, "systemctl stop runtimed")
}
