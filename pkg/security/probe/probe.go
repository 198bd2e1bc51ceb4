package probe

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/security"
	"github.com/runtimed/runtimed/pkg/security/apparmor"
	"github.com/runtimed/runtimed/pkg/security/capability"
)

// Node is what this machine has and what this process may pass on. Policy, SeccompRoot and PoolSize are the
// configuration's to fill.
func Node() (security.Node, error) {
	held, err := capability.Held()
	if err != nil {
		return security.Node{}, err
	}
	limits, err := rlimits(slices.Contains(held, "CAP_SYS_RESOURCE"))
	if err != nil {
		return security.Node{}, err
	}
	return security.Node{
		DefaultCapabilities: capability.Default,
		HeldCapabilities:    held,
		AppArmor:            word("/sys/module/apparmor/parameters/enabled") == "Y",
		AppArmorLoaded:      apparmor.Loaded,
		SELinux:             exists("/sys/fs/selinux/enforce"),
		MinOOMScoreAdj:      minOOMScoreAdj(held),
		Rlimits:             limits,
		MountAttr:           MountAttr(),
		MaskedPaths:         throttle("/sys/devices/system/cpu"),
	}, nil
}

// minOOMScoreAdj: without CAP_SYS_RESOURCE no process goes below what it was given (proc(5), oom_score_adj).
func minOOMScoreAdj(held []string) int {
	if slices.Contains(held, "CAP_SYS_RESOURCE") {
		return -1000
	}
	own, err := strconv.Atoi(word("/proc/self/oom_score_adj"))
	if err != nil {
		return 0
	}
	return own
}

// baseline is what every container starts from: the kernel's own values, with systemd's for open files and no core
// files unless a program asks. Without it the daemon's limits, so its unit file's, would be every container's.
var baseline = []struct {
	name       string
	resource   int
	soft, hard uint64
}{
	{"RLIMIT_AS", unix.RLIMIT_AS, unix.RLIM_INFINITY, unix.RLIM_INFINITY},
	{"RLIMIT_CORE", unix.RLIMIT_CORE, 0, unix.RLIM_INFINITY},
	{"RLIMIT_CPU", unix.RLIMIT_CPU, unix.RLIM_INFINITY, unix.RLIM_INFINITY},
	{"RLIMIT_DATA", unix.RLIMIT_DATA, unix.RLIM_INFINITY, unix.RLIM_INFINITY},
	{"RLIMIT_FSIZE", unix.RLIMIT_FSIZE, unix.RLIM_INFINITY, unix.RLIM_INFINITY},
	{"RLIMIT_LOCKS", unix.RLIMIT_LOCKS, unix.RLIM_INFINITY, unix.RLIM_INFINITY},
	{"RLIMIT_MEMLOCK", unix.RLIMIT_MEMLOCK, 8 << 20, 8 << 20},
	{"RLIMIT_MSGQUEUE", unix.RLIMIT_MSGQUEUE, 819200, 819200},
	{"RLIMIT_NICE", unix.RLIMIT_NICE, 0, 0},
	{"RLIMIT_NOFILE", unix.RLIMIT_NOFILE, 1024, 524288},
	{"RLIMIT_NPROC", unix.RLIMIT_NPROC, unix.RLIM_INFINITY, unix.RLIM_INFINITY},
	{"RLIMIT_RSS", unix.RLIMIT_RSS, unix.RLIM_INFINITY, unix.RLIM_INFINITY},
	{"RLIMIT_RTPRIO", unix.RLIMIT_RTPRIO, 0, 0},
	{"RLIMIT_RTTIME", unix.RLIMIT_RTTIME, unix.RLIM_INFINITY, unix.RLIM_INFINITY},
	{"RLIMIT_SIGPENDING", unix.RLIMIT_SIGPENDING, unix.RLIM_INFINITY, unix.RLIM_INFINITY},
	{"RLIMIT_STACK", unix.RLIMIT_STACK, 8 << 20, unix.RLIM_INFINITY},
}

// rlimits is the baseline, no higher than what this process may give: without CAP_SYS_RESOURCE its own hard limits.
func rlimits(raise bool) ([]specs.POSIXRlimit, error) {
	var out []specs.POSIXRlimit
	for _, b := range baseline {
		hard := b.hard
		if !raise {
			var own unix.Rlimit
			if err := unix.Getrlimit(b.resource, &own); err != nil {
				return nil, os.NewSyscallError("getrlimit "+b.name, err)
			}
			hard = min(hard, own.Max)
		}
		if b.resource == unix.RLIMIT_NOFILE { // no hard limit of open files goes beyond it, for anybody
			if most, err := strconv.ParseUint(word("/proc/sys/fs/nr_open"), 10, 64); err == nil {
				hard = min(hard, most)
			}
		}
		out = append(out, specs.POSIXRlimit{Type: b.name, Soft: min(b.soft, hard), Hard: hard})
	}
	return out, nil
}

// throttle are the per-CPU files from which a container could watch the load of its neighbours.
func throttle(cpus string) []string {
	list, err := filepath.Glob(filepath.Join(cpus, "cpu[0-9]*", "thermal_throttle"))
	if err != nil {
		return nil
	}
	return list
}

func word(path string) string {
	b, _ := os.ReadFile(path)
	return strings.TrimSpace(string(b))
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
