package security

import (
	"errors"
	"os"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/security/capability"
)

// Node is what the node has, and its policy: plain data for the resolver. Probe fills it.
type Node struct {
	// DefaultCapabilities is what a container gets that asks for nothing; HeldCapabilities is the most that any can get.
	DefaultCapabilities []string
	HeldCapabilities    []string
	// AppArmor: the kernel enforces it; AppArmorLoaded tells whether a profile is loaded. nil: none is.
	AppArmor       bool
	AppArmorLoaded func(name string) bool
	SELinux        bool
	// MinOOMScoreAdj is the lowest oom_score_adj that the daemon may give to another process.
	MinOOMScoreAdj int
	// Rlimits is what every container starts from, whatever the daemon itself was started with.
	Rlimits []specs.POSIXRlimit
	// PoolSize is the number of ids in a range of the node's pool.
	PoolSize uint32
}

// Soft and hard limit of open files, as systemd gives them to a service.
const (
	nofileSoft = 1024
	nofileHard = 524288
)

// Probe reads what the kernel has and what this process holds.
func Probe() (Node, error) {
	held, err := capability.Held()
	if err != nil {
		return Node{}, err
	}
	n := Node{DefaultCapabilities: capability.Default, HeldCapabilities: held, PoolSize: 65536}
	n.AppArmor = readWord("/sys/module/apparmor/parameters/enabled") == "Y"
	n.AppArmorLoaded = appArmorLoaded
	if _, err := os.Stat("/sys/fs/selinux/enforce"); err == nil {
		n.SELinux = true
	}
	n.MinOOMScoreAdj = minOOMScoreAdj(held)
	n.Rlimits, err = baseline()
	return n, err
}

// minOOMScoreAdj: without CAP_SYS_RESOURCE a process cannot go below what it has (proc(5), oom_score_adj).
func minOOMScoreAdj(held []string) int {
	for _, c := range held {
		if c == "CAP_SYS_RESOURCE" {
			return -1000
		}
	}
	own, err := strconv.Atoi(readWord("/proc/self/oom_score_adj"))
	if err != nil {
		return 0
	}
	return own
}

func baseline() ([]specs.POSIXRlimit, error) {
	var files, core unix.Rlimit
	if err := errors.Join(unix.Getrlimit(unix.RLIMIT_NOFILE, &files), unix.Getrlimit(unix.RLIMIT_CORE, &core)); err != nil {
		return nil, err
	}
	hard := min(files.Max, nofileHard)
	return []specs.POSIXRlimit{
		{Type: "RLIMIT_CORE", Soft: 0, Hard: core.Max},
		{Type: "RLIMIT_NOFILE", Soft: min(nofileSoft, hard), Hard: hard},
	}, nil
}

func readWord(path string) string {
	b, _ := os.ReadFile(path)
	return strings.TrimSpace(string(b))
}

func appArmorLoaded(name string) bool {
	b, err := os.ReadFile("/sys/kernel/security/apparmor/profiles")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		if i := strings.LastIndex(line, " ("); i > 0 && line[:i] == name {
			return true
		}
	}
	return false
}
