package jail

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// report is the probe's Report.
type report struct {
	Effective, Permitted, Inheritable uint64
	Bounding                          []int
	NoNewPrivs                        int
	Descriptors                       []int
	Root, Target, Lower               []string
	Limits                            map[string]uint64
	PID                               int
	Groups                            int
	Env                               []string
	Mount                             map[string]string
	Calls                             map[string]string
	OtherThread                       string
}

func buildProbe(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "probe")
	build := exec.Command("go", "build", "-tags=seccomp,netgo,osusergo", "-ldflags", `-s -w -linkmode external -extldflags "-static"`,
		"-o", bin, "./testdata/probe")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return bin
}

// start runs the probe as the daemon runs the worker.
func start(t *testing.T, bin string, flags uintptr, args ...string) (report, string, error) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	blob, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	var stderr bytes.Buffer
	cmd := exec.Command(bin, args...)
	cmd.Env, cmd.Stderr, cmd.ExtraFiles = []string{"SECRET=1"}, &stderr, []*os.File{blob, w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	err = cmd.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	var rep report
	derr := json.NewDecoder(r).Decode(&rep)
	if err = cmd.Wait(); err == nil {
		err = derr
	}
	return rep, stderr.String(), err
}

const namespaces = syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS | syscall.CLONE_NEWCGROUP

func TestJail(t *testing.T) {
	target, parent := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(parent, "file"), []byte("lower"), 0o644); err != nil {
		t.Fatal(err)
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	rep, stderr, err := start(t, buildProbe(t), namespaces, target, parent, "x")
	if err != nil {
		t.Fatalf("%v; %s", err, stderr)
	}
	var caps uint64
	var bounding []int
	for _, c := range Capabilities {
		caps |= 1 << c
		bounding = append(bounding, int(c))
	}
	slices.Sort(bounding)
	if rep.Effective != caps || rep.Permitted != caps || rep.Inheritable != 0 || !slices.Equal(rep.Bounding, bounding) {
		t.Errorf("capabilities %x %x %x, bounding %v; want %x %x 0, %v", rep.Effective, rep.Permitted, rep.Inheritable, rep.Bounding, caps, caps, bounding)
	}
	if rep.NoNewPrivs != 1 || rep.Groups != 0 || rep.PID != 1 || len(rep.Env) != 0 {
		t.Errorf("no_new_privs %d, %d groups, pid %d, environment %q", rep.NoNewPrivs, rep.Groups, rep.PID, rep.Env)
	}
	// The runtime's own (epoll) come after the five that are inherited.
	if len(rep.Descriptors) > 8 || !slices.Equal(rep.Descriptors[:5], []int{0, 1, 2, 3, 4}) {
		t.Errorf("descriptors %v are open", rep.Descriptors)
	}
	for name, got := range map[string][]string{"lower target": rep.Root, "null": rep.Target, "file": rep.Lower} {
		if strings.Join(got, " ") != name {
			t.Errorf("directory has %q, want %q", got, name)
		}
	}
	if l := rep.Limits; l["data"] != 512<<20 || l["fsize"] != 1<<20 || l["nofile"] > 4096 || l["core"] != 0 {
		t.Errorf("limits are %v", l)
	}
	checkWords(t, rep)
	if after, _ := os.ReadFile("/proc/self/mountinfo"); !bytes.Equal(after, mounts) {
		t.Error("the jail's mounts are seen outside")
	}
}

func checkWords(t *testing.T, rep report) {
	for what, want := range map[string]string{
		"new file in root": "EROFS", "new file in lower": "EROFS", "write file in lower": "EROFS", "new file in target": "ok",
		"device in target": "EACCES", "proc": "ENOENT", "up": "ENOENT", "trusted attribute": "EPERM",
	} {
		if got := rep.Mount[what]; got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	if len(rep.Calls) < 45 {
		t.Errorf("only %d calls were tried", len(rep.Calls))
	}
	for call, got := range rep.Calls {
		if got != "EPERM" {
			t.Errorf("%s: %s, want EPERM", call, got)
		}
	}
	if rep.OtherThread != "EPERM" {
		t.Errorf("a thread that was there before the filter: %s", rep.OtherThread)
	}
}

func TestRefusesWithoutNamespaces(t *testing.T) {
	target := t.TempDir()
	_, stderr, err := start(t, buildProbe(t), 0, target, target, "x")
	if err == nil || !strings.Contains(stderr, "started by runtimed alone") {
		t.Fatalf("%v; %q", err, stderr)
	}
}

func TestRefusesWhatIsNotThere(t *testing.T) {
	bin, dir := buildProbe(t), t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink("/etc", link); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string][2]string{
		"no target": {dir + "/none", dir}, "no parent": {dir, dir + "/none"}, "target is a link": {link, dir}, "target is a file": {file, dir},
		"parent is a link": {dir, link}, "parent is a file": {dir, file},
	} {
		t.Run(name, func(t *testing.T) {
			_, stderr, err := start(t, bin, namespaces, c[0], c[1], "x")
			if err == nil || !strings.Contains(stderr, "jail: ") {
				t.Fatalf("%v; %q", err, stderr)
			}
		})
	}
}

func TestNoCallIsListedTwice(t *testing.T) {
	for _, list := range [][]string{files, runtime} {
		sorted := slices.Clone(list)
		slices.Sort(sorted)
		if len(slices.Compact(sorted)) != len(list) {
			t.Error("a call is listed twice")
		}
	}
}
