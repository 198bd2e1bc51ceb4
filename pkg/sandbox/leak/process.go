package leak

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// processes finds shims, monitors and inits whose record is gone or ended, and whatever else runs in this daemon's
// groups or with its ids. A process is known by where it is and what it was started for, never by a recorded pid.
func processes(ctx context.Context, o Options, known records) ([]Leak, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var out []Leak
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || ctx.Err() != nil {
			continue
		}
		if why := (proc{pid, filepath.Join("/proc", e.Name())}).stray(o, known); why != "" {
			out = append(out, Leak{Process, fmt.Sprintf("process %d (%s) %s", pid, comm(pid), why),
				fmt.Sprintf("start the daemon, which ends it; or look at it and kill -9 %d", pid)})
		}
	}
	return out, nil
}

// proc is a process that may end at any moment: then it is no leak.
type proc struct {
	pid int
	dir string
}

// stray says why a process is a leak; "" where it is none.
func (p proc) stray(o Options, known records) string {
	argv := p.argv()
	if sid, cid, ok := p.shimOf(o, argv); ok {
		c, recorded := known.containers[cid]
		switch {
		case !recorded:
			return fmt.Sprintf("is the shim of container %s of sandbox %s, which is not recorded", short(cid), short(sid))
		case !c.up:
			return fmt.Sprintf("is the shim of container %s, which has ended", short(cid))
		}
		return ""
	}
	if id := p.pod(o); id != "" {
		if s, recorded := known.sandboxes[id]; !recorded {
			return fmt.Sprintf("is in the group of sandbox %s, which is not recorded", short(id))
		} else if !s.up {
			return fmt.Sprintf("is in the group of sandbox %s, which is stopped", short(id))
		}
		return ""
	}
	if p.inGroup(spec.Groups{Root: o.CgroupRoot}.Shims()) || p.inGroup(spec.Groups{Root: o.CgroupRoot, Systemd: true}.Shims()) {
		return "is in the group of the shims, and is the shim of no container"
	}
	if uid, ok := p.uid(); ok && o.Pool.holds(uid) && !known.holds(uid) {
		return fmt.Sprintf("runs with uid %d of the pool, which no sandbox holds", uid)
	}
	return ""
}

// argv is the command line. A zombie has none.
func (p proc) argv() []string {
	b, err := os.ReadFile(p.dir + "/cmdline")
	if err != nil || len(b) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
}

// shimOf reads the record directory from a shim's or monitor's command line.
func (p proc) shimOf(o Options, argv []string) (sid, cid string, ok bool) {
	exe, err := os.Readlink(p.dir + "/exe")
	if err != nil {
		return "", "", false
	}
	switch filepath.Base(strings.TrimSuffix(exe, " (deleted)")) {
	case "runtimed-shim", "runtimed-monitor":
	default:
		return "", "", false
	}
	for _, a := range argv {
		rel, below := strings.CutPrefix(strings.TrimPrefix(a, "dir="), o.Layout.Sandboxes()+"/")
		if !below {
			continue
		}
		parts := strings.Split(rel, "/")
		if len(parts) == 3 && parts[1] == "containers" {
			return parts[0], parts[2], true
		}
	}
	return "", "", false
}

// groups are the process's groups, of all hierarchies (proc_pid_cgroup(5)).
func (p proc) groups() []string {
	b, err := os.ReadFile(p.dir + "/cgroup")
	if err != nil {
		return nil
	}
	var out []string
	for line := range bytes.Lines(b) {
		if _, rest, ok := strings.Cut(strings.TrimSpace(string(line)), ":"); ok {
			if _, path, ok := strings.Cut(rest, ":"); ok {
				out = append(out, path)
			}
		}
	}
	return out
}

func (p proc) inGroup(path string) bool {
	for _, g := range p.groups() {
		if g == path || strings.HasPrefix(g, path+"/") {
			return true
		}
	}
	return false
}

// pod is the id of the sandbox below this daemon's own group that the process is in; "" is none.
func (p proc) pod(o Options) string {
	for _, g := range p.groups() {
		for _, systemd := range []bool{false, true} {
			if rest, ok := strings.CutPrefix(g, spec.Groups{Root: o.CgroupRoot, Systemd: systemd}.Pods()+"/"); ok {
				name, _, _ := strings.Cut(rest, "/")
				return spec.GroupID(name)
			}
		}
	}
	return ""
}

func (p proc) uid() (uint32, bool) {
	var st unix.Stat_t
	if err := unix.Stat(p.dir, &st); err != nil {
		return 0, false
	}
	return st.Uid, true
}

func comm(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return "?"
	}
	return fmt.Sprintf("%q", strings.TrimSpace(string(b)))
}
