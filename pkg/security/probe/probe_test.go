package probe

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestNode(t *testing.T) {
	n, err := Node()
	if err != nil {
		t.Fatal(err)
	}
	if len(n.HeldCapabilities) == 0 || len(n.DefaultCapabilities) != 9 || n.MinOOMScoreAdj < -1000 || n.MinOOMScoreAdj > 1000 {
		t.Errorf("%+v", n)
	}
	if !n.MountAttr || !HostSysfs() {
		t.Error("every kernel that these tests run on can change mounts recursively, and copy /sys")
	}
	if n.AppArmorLoaded("no such profile") {
		t.Error("a profile that nobody loaded is loaded")
	}
	for _, l := range n.Rlimits {
		if l.Soft > l.Hard {
			t.Errorf("%+v", l)
		}
	}
}

// TestLimitsCanBeSet: without CAP_SYS_RESOURCE a limit above one's own would fail each start.
func TestLimitsCanBeSet(t *testing.T) {
	for _, raise := range []bool{false, true} {
		limits, err := rlimits(raise)
		if err != nil || len(limits) != len(baseline) {
			t.Fatal(limits, err)
		}
		for i, l := range limits {
			var own unix.Rlimit
			if err := unix.Getrlimit(baseline[i].resource, &own); err != nil {
				t.Fatal(err)
			}
			if !raise && l.Hard > own.Max || l.Hard > baseline[i].hard || l.Soft > baseline[i].soft {
				t.Errorf("raise %v: %+v, own %+v", raise, l, own)
			}
		}
	}
	core := slices.IndexFunc(baseline, func(b struct {
		name       string
		resource   int
		soft, hard uint64
	}) bool {
		return b.name == "RLIMIT_CORE"
	})
	if baseline[core].soft != 0 {
		t.Error("core files are off until a program asks")
	}
}

func TestMinOOMScoreAdj(t *testing.T) {
	if got := minOOMScoreAdj([]string{"CAP_SYS_RESOURCE"}); got != -1000 {
		t.Error(got)
	}
	own := word("/proc/self/oom_score_adj")
	if got := minOOMScoreAdj(nil); own != "0" && got == 0 || own == "0" && got != 0 {
		t.Errorf("%d, own %s", got, own)
	}
}

func TestThrottle(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"cpu0/thermal_throttle", "cpu12/thermal_throttle", "cpu1", "cpufreq/thermal_throttle"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if got := throttle(dir); len(got) != 2 {
		t.Error(got)
	}
}
