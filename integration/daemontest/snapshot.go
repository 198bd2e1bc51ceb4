package daemontest

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Snapshot is what can be seen of the machine: for each kind, its lines, sorted. It is taken with other programs and
// other code than the product's.
type Snapshot map[string][]string

// Snapshot looks at the machine: mounts, processes, links, addresses, routes, the names of network namespaces,
// nftables' rules, cgroups, and the daemon's files besides the contents of images. Its own log is not part of it.
func (d *Daemon) Snapshot() Snapshot {
	d.t.Helper()
	d.awaitTrash()
	s := Snapshot{"mount": mounts(), "process": processes(), "cgroup": cgroups(d.CgroupRoot), "file": d.files()}
	for kind, cmd := range map[string][]string{
		"link": {"ip", "-o", "link"}, "address": {"ip", "-o", "addr"}, "netns": {"ip", "netns"}, "rule": {"nft", "list", "ruleset"},
	} {
		o := run(cmd[0], cmd[1:]...)
		if o.Code != 0 {
			d.t.Fatalf("%v: %s", cmd, o.Stderr)
		}
		s[kind] = sortedLines(steady(kind, o.Stdout))
	}
	return s
}

// awaitTrash waits for what the image store deletes in the background: seen in one snapshot, it would be missed in the
// next. Trash that stays is in the snapshot, as anything else.
func (d *Daemon) awaitTrash() {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		left, err := os.ReadDir(filepath.Join(d.Dir, "root/images/trash"))
		if len(left) == 0 || err != nil {
			return
		}
	}
}

// Warm pulls the daemon's image and runs a first pod and container to their removal: what the first ones make for good
// (the bridge, the parents of groups) is there afterwards.
func (d *Daemon) Warm() {
	d.t.Helper()
	d.Pull()
	p := d.PodConfig("warm")
	pod := d.RunPod(p)
	d.RunContainer(pod, p, d.ContainerConfig("warm", Sleep))
	d.RemovePod(pod)
	os.RemoveAll(p.LogDirectory)
}

// Diff lists what is in after and not in before with a "+", and the reverse with a "-".
func Diff(before, after Snapshot) []string {
	var out []string
	for _, kind := range slices.Sorted(mapKeys(after)) {
		out = append(out, without(kind, "+", after[kind], before[kind])...)
		out = append(out, without(kind, "-", before[kind], after[kind])...)
	}
	return out
}

// Same fails the test with what differs between two snapshots.
func Same(t TB, before, after Snapshot) {
	t.Helper()
	if d := Diff(before, after); len(d) > 0 {
		t.Errorf("left behind, or taken away:\n%s", strings.Join(d, "\n"))
	}
}

func mapKeys(s Snapshot) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range s {
			if !yield(k) {
				return
			}
		}
	}
}

// without counts: a second mount on the same place is a line more.
func without(kind, sign string, these, those []string) []string {
	left := map[string]int{}
	for _, l := range those {
		left[l]++
	}
	var out []string
	for _, l := range these {
		if left[l]--; left[l] < 0 {
			out = append(out, sign+" "+kind+" "+l)
		}
	}
	return out
}

// steady drops what the kernel changes by itself: lifetimes, counters, the carrier of a bridge without a pod.
func steady(kind, text string) string {
	var out []string
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		switch {
		case kind == "link" && len(f) > 1, kind == "address" && len(f) > 3:
			line = strings.Join(f[1:min(len(f), 2+2*map[string]int{"address": 1}[kind])], " ")
		case kind == "rule":
			line = strings.TrimRight(line, "\n")
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}

func sortedLines(text string) []string {
	var out []string
	for l := range strings.Lines(text) {
		if l = strings.TrimSpace(l); l != "" {
			out = append(out, l)
		}
	}
	sort.Strings(out)
	return out
}

// mounts are mount point, root and type of each; ids and devices differ from mount to mount.
func mounts() []string {
	b, _ := os.ReadFile("/proc/self/mountinfo")
	var out []string
	for l := range strings.Lines(string(b)) {
		f := strings.Fields(l)
		left, right, _ := strings.Cut(l, " - ")
		out = append(out, strings.Join([]string{f[4], strings.Fields(left)[3], strings.Fields(right)[0]}, " "))
	}
	sort.Strings(out)
	return out
}

// mountsBelow are the mount points at and below dir, the youngest first.
func mountsBelow(dir string) []string {
	b, _ := os.ReadFile("/proc/self/mountinfo")
	var out []string
	for l := range strings.Lines(string(b)) {
		if p := strings.Fields(l)[4]; p == dir || strings.HasPrefix(p, dir+"/") {
			out = append(out, p)
		}
	}
	slices.Reverse(out)
	return out
}

// Process is one of /proc.
type Process struct {
	PID, PPID int
	State     string
	Name      string
	Args      []string
}

// Processes lists every process that is not a thread of the kernel.
func Processes() []Process {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	var out []Process
	for _, dir := range dirs {
		stat, err := os.ReadFile(dir + "/stat")
		if err != nil {
			continue
		}
		args, _ := os.ReadFile(dir + "/cmdline")
		open, shut := strings.IndexByte(string(stat), '('), strings.LastIndexByte(string(stat), ')')
		rest := strings.Fields(string(stat[shut+1:]))
		p := Process{Name: string(stat[open+1 : shut]), State: rest[0], Args: strings.Split(strings.TrimRight(string(args), "\x00"), "\x00")}
		p.PID, _ = strconv.Atoi(filepath.Base(dir))
		p.PPID, _ = strconv.Atoi(rest[1])
		out = append(out, p)
	}
	return out
}

// processes are the names of all; the programs that tests start for a moment are not part of a snapshot's claim.
func processes() []string {
	var out []string
	for _, p := range Processes() {
		// A zombie that init has not yet collected is nobody's leak; one of the test's own is.
		if p.PPID == 1 && p.State == "Z" {
			continue
		}
		if hostPIDs() && notOurs(p) {
			continue
		}
		out = append(out, p.Name+" "+strings.Join(p.Args[:min(len(p.Args), 2)], " "))
	}
	sort.Strings(out)
	return out
}

// notOurs are the kernel's threads and the workers of the machine's own services, which come and go.
func notOurs(p Process) bool {
	return p.PID == 2 || p.PPID == 2 || strings.HasPrefix(p.Name, "systemd") || strings.HasPrefix(p.Name, "(")
}

// cgroups are the groups below root in every hierarchy, without the hierarchy's mount point.
func cgroups(root string) []string {
	var out []string
	var trees []string
	for _, h := range Hierarchies() {
		trees = append(trees, h+root, h+root+".slice") // the second is systemd's form
	}
	for _, tree := range trees {
		filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				out = append(out, path)
			}
			return nil
		})
	}
	sort.Strings(out)
	return out
}

// files are those below root, run and the netns directory; of images only the names of what is held.
func (d *Daemon) files() []string {
	var out []string
	for _, dir := range []string{d.Layout.Root, d.Layout.Run, d.Layout.Netns} {
		filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return nil
			}
			out = append(out, fmt.Sprintf("%s %v", path, e.Type()))
			if e.IsDir() && (filepath.Dir(path) == d.Layout.Layers() || filepath.Dir(path) == filepath.Join(d.Layout.Images(), "blobs")) {
				return fs.SkipDir
			}
			return nil
		})
	}
	sort.Strings(out)
	return out
}

// killAll kills every process of the daemon: whatever has its directory in its arguments, and whatever is in its groups.
func (d *Daemon) killAll() {
	for _, p := range Processes() {
		if p.PID != os.Getpid() && p.PID != 1 && slices.ContainsFunc(p.Args, func(a string) bool { return strings.Contains(a, d.Dir+"/") }) {
			unix.Kill(p.PID, unix.SIGKILL)
		}
	}
}

// dropNetwork removes the daemon's links and rules.
func (d *Daemon) dropNetwork() {
	for _, l := range sortedLines(run("ip", "-o", "link", "show", "master", d.Bridge).Stdout) {
		if f := strings.Fields(l); len(f) > 1 {
			name, _, _ := strings.Cut(strings.TrimSuffix(f[1], ":"), "@")
			run("ip", "link", "del", name)
		}
	}
	run("ip", "link", "del", d.Bridge)
	for _, family := range []string{"inet", "ip", "ip6", "bridge", "arp"} {
		run("nft", "delete", "table", family, d.NftTable)
	}
}

// numbers reads a file of numbers, one on each line.
func numbers(path string) []int {
	b, _ := os.ReadFile(path)
	var out []int
	for _, f := range strings.Fields(string(b)) {
		if n, err := strconv.Atoi(f); err == nil {
			out = append(out, n)
		}
	}
	return out
}
