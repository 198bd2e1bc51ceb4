package doctor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/cmd/runtimed/config"
	"github.com/runtimed/runtimed/pkg/sandbox/cgroup"
	"github.com/runtimed/runtimed/pkg/sandbox/namespaces"
)

// Verdict of a check.
type Verdict string

const (
	OK   Verdict = "ok"
	Note Verdict = "note" // works, and should be known
	Bad  Verdict = "bad"
)

// Result is one check's.
type Result struct {
	Check   string  `json:"check"`
	Verdict Verdict `json:"verdict"`
	Text    string  `json:"text"`
	Fix     string  `json:"fix,omitempty"`
}

func ok(check, format string, args ...any) Result {
	return Result{Check: check, Verdict: OK, Text: fmt.Sprintf(format, args...)}
}

func bad(check, fix, format string, args ...any) Result {
	return Result{check, Bad, fmt.Sprintf(format, args...), fix}
}

// Look makes all checks for a daemon with that configuration.
func Look(ctx context.Context, c config.Config) []Result {
	out := []Result{user(), userNamespaces(), overlay(), seccomp(), pidfd(), groups(), programs(c), idmap(c)}
	out = append(out, directories(c)...)
	out = append(out, networks(ctx, c)...)
	return append(out, trust(c))
}

func user() Result {
	if os.Geteuid() != 0 {
		return bad("user", "run it as root", "this is user %d: what only root may look at is not seen", os.Geteuid())
	}
	return ok("user", "root")
}

func userNamespaces() Result {
	if _, err := os.Stat("/proc/self/ns/user"); err != nil {
		return bad("user namespaces", "use a kernel with CONFIG_USER_NS", "the kernel has none: %v", err)
	}
	if most, err := word("/proc/sys/user/max_user_namespaces"); err != nil || most == "0" {
		return bad("user namespaces", "sysctl -w user.max_user_namespaces=65536, and look in /etc/sysctl.d for what sets it to 0",
			"user.max_user_namespaces is %q: pods cannot have one", most)
	}
	return ok("user namespaces", "the kernel makes them")
}

// overlay asks for a context of the file system: that loads its module where there is one.
func overlay() Result {
	fd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return bad("overlayfs", "use a kernel with CONFIG_OVERLAY_FS; modprobe overlay says why a module is not loaded", "not available: %v", err)
	}
	unix.Close(fd)
	return ok("overlayfs", "available")
}

func seccomp() Result {
	actions, err := word("/proc/sys/kernel/seccomp/actions_avail")
	if err != nil || !strings.Contains(actions, "errno") {
		return bad("seccomp", "use a kernel with CONFIG_SECCOMP_FILTER", "filters are not available")
	}
	return ok("seccomp", "filters with %s", strings.Join(strings.Fields(actions), ", "))
}

func pidfd() Result {
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return bad("pidfd", "use Linux 5.3 or later", "pidfd_open: %v", err)
	}
	unix.Close(fd)
	return ok("pidfd", "available")
}

func groups() Result {
	n, err := cgroup.Detect()
	if err != nil {
		return bad("cgroups", "mount the hierarchies where systemd does, or give this container a cgroup namespace of its own", "%v", err)
	}
	if lacks := lacking(n); len(lacks) > 0 {
		return bad("cgroups", "boot with these controllers (cgroup_enable=…)", "mode %s, without %s: limits of these are refused",
			n.Mode, strings.Join(lacks, ", "))
	}
	return ok("cgroups", "mode %s", n.Mode)
}

// lacking are the controllers that limits need and the node has not.
func lacking(n cgroup.Node) []string {
	have := map[string]bool{}
	for _, h := range n.V1 {
		for _, c := range h.Controllers {
			have[c] = true
		}
	}
	if n.Unified != "" {
		list, _ := word(filepath.Join(n.Unified, "cgroup.controllers"))
		for _, c := range strings.Fields(list) {
			have[c] = true
		}
	}
	var lacks []string
	for _, c := range []string{"cpu", "memory", "pids", "cpuset"} {
		if !have[c] {
			lacks = append(lacks, c)
		}
	}
	return lacks
}

func programs(c config.Config) Result {
	dir, err := c.LibexecDir()
	if err != nil {
		return bad("programs", "set libexec to where they are", "%v", err)
	}
	var missing []string
	for _, name := range []string{"runtimed-shim", "runtimed-monitor", "runtimed-init", "runtimed-unpack"} {
		if unix.Access(filepath.Join(dir, name), unix.X_OK) != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return bad("programs", "install all programs there, or set libexec to where they are", "%s cannot be executed in %s", strings.Join(missing, ", "), dir)
	}
	return ok("programs", "all in %s", dir)
}

// idmap tries an idmapped mount on the file system of the image layers.
func idmap(c config.Config) Result {
	const check = "idmapped mounts"
	dir, err := c.LibexecDir()
	if err != nil {
		return bad(check, "set libexec", "cannot be tried: %v", err)
	}
	place := existing(c.Layout().Layers())
	m := namespaces.New(namespaces.Options{Layout: c.Layout(), Init: filepath.Join(dir, "runtimed-init")})
	if err := m.ProbeIDMap(place); err != nil {
		return bad(check, "put root on ext4, xfs or btrfs, on Linux 5.19 or later", "pods get no user namespace of their own: %v", err)
	}
	return ok(check, "the file system of %s takes them", place)
}

// existing is the path, or the nearest directory above it that is there.
func existing(path string) string {
	for {
		if _, err := os.Stat(path); err == nil || path == "/" {
			return path
		}
		path = filepath.Dir(path)
	}
}

func directories(c config.Config) []Result {
	var out []Result
	for _, d := range []struct{ key, path string }{{"root", c.Root}, {"run", c.Run}} {
		check := "directory " + d.key
		var st unix.Stat_t
		err := unix.Lstat(d.path, &st)
		mode := st.Mode & 0o7777
		switch {
		case err == unix.ENOENT:
			out = append(out, ok(check, "%s is made when the daemon starts", d.path))
		case err != nil:
			out = append(out, bad(check, "look at it as root", "%s: %v", d.path, err))
		case st.Mode&unix.S_IFMT != unix.S_IFDIR:
			out = append(out, bad(check, "remove it, or set "+d.key+" to another place", "%s is no directory", d.path))
		case st.Uid != 0:
			out = append(out, bad(check, "chown root "+d.path, "%s belongs to user %d, who can change every pod's records", d.path, st.Uid))
		case mode&0o077 != 0:
			out = append(out, bad(check, "chmod 700 "+d.path, "%s has mode %04o: others can look into it", d.path, mode))
		default:
			out = append(out, ok(check, "%s, mode %04o", d.path, mode))
		}
	}
	return out
}

func trust(c config.Config) Result {
	if c.Trust.Mode == "off" {
		return Result{"trust", Note, "trust.mode is off: every image is taken unverified", "leave the key out to refuse every image"}
	}
	return Result{"trust", Note, "trust.mode is not set: every pull is refused", `trust.mode = "off" takes every image, unverified`}
}

func word(path string) (string, error) {
	b, err := os.ReadFile(path)
	return strings.TrimSpace(string(b)), err
}
