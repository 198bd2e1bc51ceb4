package kill

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// snapshot is what is there, one line for each object.
func (w *world) snapshot() []string {
	var all []string
	for _, p := range w.processes() {
		all = append(all, "process "+p.command)
	}
	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", w.holder.Process.Pid))
	if err != nil {
		w.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 4 {
			all = append(all, "mount "+f[3]+" "+f[4])
		}
	}
	for _, dir := range w.cgroups() {
		all = append(all, "cgroup "+dir)
	}
	for _, dir := range []string{"root", "run", "netns"} {
		filepath.WalkDir(filepath.Join(w.dir, dir), func(path string, d fs.DirEntry, err error) error {
			if err == nil && !strings.Contains(path, "/images/layers/") {
				all = append(all, "file "+d.Type().String()+" "+path)
			}
			return nil
		})
	}
	for _, command := range []string{"ip -o link", "ip -o addr", "ip route show table all", "ip -6 route show", "nft list ruleset"} {
		all = append(all, w.ask(command)...)
	}
	slices.Sort(all)
	return all
}

// baseline is a snapshot to compare others with, once nothing of a life before it is still ending: what it holds by
// accident would be missed in every later one. What does not end within a while is in it.
func (w *world) baseline() []string {
	w.Helper()
	last := w.snapshot()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		time.Sleep(100 * time.Millisecond)
		now := w.snapshot()
		ending := slices.ContainsFunc(now, func(s string) bool { return strings.Contains(s, "/images/trash/") })
		if !ending && len(diff(last, now)) == 0 {
			return now
		}
		last = now
	}
	return last
}

type proc struct {
	pid     string // in the world
	command string
}

// processes are all of the world's but its first and the daemon.
func (w *world) processes() []proc {
	root := fmt.Sprintf("/proc/%d/root/proc", w.holder.Process.Pid)
	entries, err := os.ReadDir(root)
	if err != nil {
		w.Fatal(err)
	}
	var all []proc
	for _, e := range entries {
		command, err := os.ReadFile(filepath.Join(root, e.Name(), "cmdline"))
		if err != nil || e.Name() == "1" || !isNumber(e.Name()) {
			continue
		}
		text := strings.TrimSpace(strings.ReplaceAll(string(command), "\x00", " "))
		if stat, _ := os.ReadFile(filepath.Join(root, e.Name(), "stat")); text == "" {
			text = string(stat) // a zombie
			if f := strings.Fields(text); len(f) > 3 {
				text = "zombie " + f[1] + " parent " + f[3]
				if strings.Contains(text, "parent 1") {
					continue // about to be reaped
				}
			}
		}
		if text == "" || strings.HasPrefix(text, filepath.Join(built, "daemon")) {
			continue
		}
		all = append(all, proc{e.Name(), text})
	}
	return all
}

func isNumber(s string) bool { return strings.Trim(s, "0123456789") == "" }

// volatile is what changes by itself: counters, indexes, and states of a link that come a moment later.
var volatile = regexp.MustCompile(`counter packets \d+ bytes \d+|^\d+: |valid_lft \S+|preferred_lft \S+|expires \S+|state \S+|tentative |<[A-Z0-9_,-]*>|link/ether \S+ |qdisc \S+ |mode \S+ |group \S+ |qlen \d+| linkdown|# handle \d+`)

func (w *world) ask(command string) []string {
	args := append([]string{"-t", fmt.Sprint(w.holder.Process.Pid), "-n"}, strings.Fields(command)...)
	out, err := exec.Command("nsenter", args...).CombinedOutput()
	if err != nil {
		w.Fatalf("%s: %v: %s", command, err, out)
	}
	var lines []string
	for line := range strings.Lines(string(out)) {
		// A bridge without ports loses its link-local address and the routes of it.
		if line = strings.TrimSpace(line); strings.Contains(line, "fe80:") || strings.Contains(line, "ff00:") || strings.HasPrefix(line, "anycast") {
			continue
		}
		line = strings.Join(strings.Fields(volatile.ReplaceAllString(line, "")), " ")
		lines = append(lines, command+": "+line)
	}
	return lines
}

// diff says what is there beyond, or short of, before.
func diff(before, now []string) []string {
	count := map[string]int{}
	for _, s := range before {
		count[s]--
	}
	for _, s := range now {
		count[s]++
	}
	var out []string
	for s, n := range count {
		if n > 0 {
			out = append(out, "left: "+s)
		} else if n < 0 {
			out = append(out, "gone: "+s)
		}
	}
	slices.Sort(out)
	return out
}

// settled compares with a snapshot, for a while: what ends by itself may take its moment.
func (w *world) settled(what string, before []string) bool {
	w.Helper()
	var left []string
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if left = diff(before, w.snapshot()); len(left) == 0 {
			return true
		}
	}
	w.Errorf("%s: not as before:\n  %s", what, strings.Join(left, "\n  "))
	return false
}
