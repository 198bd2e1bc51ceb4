package namespaces

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

// sleeper is a process that lives as long as the test; its pid.
func sleeper(t *testing.T, flags uintptr) string {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return strconv.Itoa(cmd.Process.Pid)
}

func startInit(t *testing.T, m *Manager, id string) spec.Process {
	t.Helper()
	p, err := m.StartInit(t.Context(), spec.InitRequest{SandboxID: id, CgroupPath: "/x"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Kill(p.PID, unix.SIGKILL); eventually(t, "init gone", func() bool { return !alive(p) }) })
	return p
}

// alive: not gone and no zombie.
func alive(p spec.Process) bool {
	ticks, err := startTicks(p.PID)
	if err != nil || ticks != p.StartTicks {
		return false
	}
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID))
	return !strings.Contains(string(b), ") Z ")
}

func TestInitAsItIsMeantToBe(t *testing.T) {
	m := newManager(t)
	create(t, m, request())
	p := startInit(t, m, sid)
	groups := m.o.Groups.(*fakeGroups)
	if len(groups.joined) != 1 || groups.joined[0] != p.PID {
		t.Errorf("joined %v, want %d", groups.joined, p.PID)
	}
	for _, kind := range pinned {
		if a, b := nsOf(t, fmt.Sprintf("/proc/%d/ns/%s", p.PID, kind)), nsOf(t, m.pin(sid, kind)); a != b {
			t.Errorf("it is in another %s namespace", kind)
		}
	}
	for _, kind := range []string{"pid", "mnt"} {
		if nsOf(t, fmt.Sprintf("/proc/%d/ns/%s", p.PID, kind)) == nsOf(t, "/proc/self/ns/"+kind) {
			t.Errorf("it is in this %s namespace", kind)
		}
	}
	for field, want := range map[string]string{"Name": "runtimed-init", "Threads": "1", "CapEff": "0000000000000000",
		"CapPrm": "0000000000000000", "CapInh": "0000000000000000", "CapAmb": "0000000000000000", "NoNewPrivs": "1",
		"Seccomp": "2", "Uid": "1073741824 1073741824 1073741824 1073741824", "Gid": "1073741824 1073741824 1073741824 1073741824",
		"Groups": "", "NSpid": fmt.Sprint(p.PID, " 1"), "SigBlk": "0000000000000000", "SigIgn": "fffffffffffbfeff"} {
		if got := status(t, p.PID, field); got != want {
			t.Errorf("%s: %q, want %q", field, got, want)
		}
	}
	if ppid := status(t, p.PID, "PPid"); ppid == strconv.Itoa(os.Getpid()) {
		t.Error("it is this process's child, which would have to reap it")
	}
	cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.PID))
	if want := "runtimed-init\x00init\x00user,net,ipc,uts\x00" + sid + "\x00"; string(cmdline) != want {
		t.Errorf("command line %q", cmdline)
	}
	eventually(t, "no open descriptor", func() bool {
		fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.PID))
		return err == nil && len(fds) == 0
	})
	mounts, _ := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", p.PID))
	if strings.Count(string(mounts), "\n") != 1 || !strings.Contains(string(mounts), " / / ro,") {
		t.Errorf("its mounts are %s", mounts)
	}
	if left := mountsBelow(t, m.dir(sid)+"/"); len(left) != 3 {
		t.Errorf("here: %q, want the three pins", left)
	}
	logMemory(t, p.PID)
}

func logMemory(t *testing.T, pid int) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); f[0] == "Pss:" || f[0] == "Anonymous:" {
			t.Logf("%s %s KiB", f[0], f[1])
			if n, _ := strconv.Atoi(f[1]); f[0] == "Anonymous:" && n > 300 {
				t.Errorf("%d KiB of its own", n)
			}
		}
	}
}

// TestInitCannotBeReachedFromThePod: the pod's root, with every capability in the pod's user namespace, gets neither
// the init's memory nor its program nor its descriptors.
func TestInitCannotBeReachedFromThePod(t *testing.T) {
	m := newManager(t)
	create(t, m, request())
	p := startInit(t, m, sid)
	script := fmt.Sprintf("for f in exe root cwd fd/0 ns/mnt; do readlink /proc/%[1]d/$f && echo got $f; done;"+
		" for f in mem maps environ; do head -c 1 /proc/%[1]d/$f && echo got $f; done; kill -TERM %[1]d; kill -CHLD %[1]d; true", p.PID)
	out := inside(t, m, sid, script)
	if strings.Contains(out, "got ") {
		t.Errorf("%s", out)
	}
	if !alive(p) {
		t.Error("a SIGTERM from the pod ended it")
	}
}

// TestInitOfAPodWithHostIDs: where the pod has no user namespace, its program is on a read-only mount all the same.
func TestInitOfAPodWithHostIDs(t *testing.T) {
	m := newManager(t)
	create(t, m, spec.NamespaceRequest{SandboxID: sid, Net: true})
	p := startInit(t, m, sid)
	exe := fmt.Sprintf("/proc/%d/exe", p.PID)
	if f, err := os.OpenFile(exe, os.O_WRONLY, 0); !errors.Is(err, unix.EROFS) && !errors.Is(err, unix.ETXTBSY) {
		t.Errorf("open for writing: %v, %v, want EROFS or ETXTBSY", f, err)
	}
	f, err := os.Open(exe)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unix.Kill(p.PID, unix.SIGKILL)
	eventually(t, "init gone", func() bool { return !alive(p) })
	again := fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	eventually(t, "EROFS for the program of a dead init", func() bool {
		w, err := os.OpenFile(again, os.O_WRONLY, 0)
		if err == nil {
			w.Close()
			t.Fatal("the node's program could be written")
		}
		return errors.Is(err, unix.EROFS)
	})
}

func TestInitIgnoresSignals(t *testing.T) {
	m := newManager(t)
	create(t, m, request())
	p := startInit(t, m, sid)
	for sig := unix.Signal(1); sig <= 64; sig++ {
		if sig != unix.SIGKILL && sig != unix.SIGSTOP {
			if err := unix.Kill(p.PID, sig); err != nil {
				t.Fatalf("signal %d: %v", sig, err)
			}
		}
	}
	if !alive(p) || status(t, p.PID, "SigPnd") != "0000000000000000" {
		t.Error("a signal was taken, or waits")
	}
	unix.Kill(p.PID, unix.SIGSTOP)
	unix.Kill(p.PID, unix.SIGCONT)
	if !alive(p) {
		t.Error("stopped and continued: gone")
	}
}

// TestInitReapsOrphans: a thousand orphans, with exit signals of every kind, and none is ever seen as a zombie for long.
func TestInitReapsOrphans(t *testing.T) {
	m := newManager(t)
	create(t, m, request())
	p := startInit(t, m, sid)
	// Each ( … & ) leaves its inner process to the init; half of them die before, half after their parent.
	script := "i=0; while [ $i -lt 500 ]; do ( : & ) ; ( ( exec sleep 0.2 ) & ) ; i=$((i+1)); done"
	args := []string{"--target", strconv.Itoa(p.PID), "--user", "--pid", "--", "sh", "-c", script}
	if out, err := exec.Command("nsenter", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	eventually(t, "no process but the init", func() bool { return len(inPIDNamespace(t, p.PID)) == 1 })
	if !alive(p) {
		t.Error("the init is gone")
	}
}

// inPIDNamespace are the processes, zombies too, of pid's PID namespace.
func inPIDNamespace(t *testing.T, pid int) (out []string) {
	t.Helper()
	all, _ := filepath.Glob("/proc/[0-9]*/status")
	for _, file := range all {
		b, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); f[0] == "NSpid:" && len(f) == 3 && sameParentOrSelf(b, pid, f[1]) {
				out = append(out, f[1])
			}
		}
	}
	return out
}

// sameParentOrSelf: orphans have the init as their parent.
func sameParentOrSelf(status []byte, pid int, self string) bool {
	return self == strconv.Itoa(pid) || strings.Contains(string(status), fmt.Sprintf("\nPPid:\t%d\n", pid))
}

// TestInitEndsItsNamespace: with the init every process of the pod's PID namespace goes.
func TestInitEndsItsNamespace(t *testing.T) {
	m := newManager(t)
	create(t, m, request())
	p := startInit(t, m, sid)
	cmd := exec.Command("nsenter", "--target", strconv.Itoa(p.PID), "--user", "--pid", "--", "sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	unix.Kill(p.PID, unix.SIGKILL)
	if err := cmd.Wait(); err == nil {
		t.Error("a process outlived its PID namespace")
	}
}

// TestInitEveryStepFails: whichever step fails, no process is left.
func TestInitEveryStepFails(t *testing.T) {
	m := newManager(t)
	create(t, m, request())
	before := inits(t)
	for _, name := range []string{"group", "fork", "join", "go"} {
		for _, phase := range []step.Phase{step.Doing, step.Done} {
			ctx, cancel := context.WithCancel(t.Context())
			m.o.Observe = func(e step.Event) error {
				if e.Step == name && e.Phase == phase {
					if phase == step.Done && name != "go" {
						cancel() // the next step is not begun
					}
					return errors.New("planted")
				}
				return nil
			}
			p, err := m.StartInit(ctx, spec.InitRequest{SandboxID: sid, CgroupPath: "/x"})
			cancel()
			if name == "go" && phase == step.Done {
				unix.Kill(p.PID, unix.SIGKILL)
			} else if err == nil {
				t.Errorf("%s %s: no error", name, phase)
			}
			eventually(t, "no init is left", func() bool { return len(inits(t)) == len(before) })
		}
	}
}

// inits are the processes called runtimed-init that are no zombies.
func inits(t *testing.T) (out []string) {
	t.Helper()
	all, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range all {
		b, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(b), " (runtimed-init) ") && !strings.Contains(string(b), ") Z ") {
			cmdline, _ := os.ReadFile(filepath.Dir(file) + "/cmdline")
			if strings.Contains(string(cmdline), sid) {
				out = append(out, file)
			}
		}
	}
	return out
}

func TestInitRefusals(t *testing.T) {
	m := newManager(t)
	if _, err := m.StartInit(t.Context(), spec.InitRequest{SandboxID: "../x"}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("%v, want InvalidArgument", err)
	}
	if _, err := m.StartInit(t.Context(), spec.InitRequest{SandboxID: sid}); err == nil {
		t.Error("an init without the sandbox's directory")
	}
	create(t, m, request())
	unix.Unmount(m.pin(sid, "user"), unix.MNT_DETACH)
	if _, err := m.StartInit(t.Context(), spec.InitRequest{SandboxID: sid}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("without its user namespace: %v, want FailedPrecondition", err)
	}
}

// TestInitOutlivesTheDaemon: the process that started it is killed, and it stays.
func TestInitOutlivesTheDaemon(t *testing.T) {
	m := newManager(t)
	create(t, m, request())
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestDaemonThatDies$")
	cmd.Env = append(os.Environ(), "RUNTIMED_TEST_DAEMON="+m.o.Layout.Run+":"+m.o.Layout.Netns+":"+program)
	out, err := cmd.Output()
	if err == nil {
		t.Fatal("the daemon did not die")
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatalf("%q", out)
	}
	ticks, err := startTicks(pid)
	if err != nil || !alive(spec.Process{PID: pid, StartTicks: ticks}) {
		t.Fatalf("the init went with the daemon: %v", err)
	}
	unix.Kill(pid, unix.SIGKILL)
	eventually(t, "reaped by its new parent", func() bool { _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); return err != nil })
}

// TestDaemonThatDies is the daemon of the test above; alone it does nothing.
func TestDaemonThatDies(t *testing.T) {
	paths := strings.Split(os.Getenv("RUNTIMED_TEST_DAEMON"), ":")
	if len(paths) != 3 {
		return
	}
	m := New(Options{Layout: spec.Layout{Run: paths[0], Netns: paths[1]}, Init: paths[2], Groups: &fakeGroups{}})
	p, err := m.StartInit(context.Background(), spec.InitRequest{SandboxID: sid, CgroupPath: "/x"})
	if err != nil {
		fmt.Println(err)
	}
	fmt.Println(p.PID)
	unix.Kill(os.Getpid(), unix.SIGKILL)
}

func BenchmarkStartInit(b *testing.B) {
	base := b.TempDir()
	l := spec.Layout{Run: filepath.Join(base, "run"), Netns: filepath.Join(base, "netns")}
	m := New(Options{Layout: l, Init: program, Groups: &fakeGroups{}})
	if err := errors.Join(PrepareRun(l), m.Create(b.Context(), request())); err != nil {
		b.Fatal(err)
	}
	defer unmount(l.Netns)
	defer ReleaseRun(l)
	for b.Loop() {
		p, err := m.StartInit(b.Context(), spec.InitRequest{SandboxID: sid, CgroupPath: "/x"})
		if err != nil {
			b.Fatal(err)
		}
		unix.Kill(p.PID, unix.SIGKILL)
	}
}

// TestProgramAlone: whoever else starts the program gets a clear word and nothing happens.
func TestProgramAlone(t *testing.T) {
	for name, c := range map[string]struct {
		args  []string
		stdin string
		code  int
		says  string
	}{
		"no mode":        {nil, "", 125, "usage: "},
		"unknown mode":   {[]string{"run"}, "", 125, "usage: "},
		"no setup":       {[]string{"hold"}, "", 1, "error 0 the setup ends early"},
		"not a setup":    {[]string{"hold"}, "\x04\x00\x00\x00abc\x00", 1, "error 0 unknown word"},
		"huge setup":     {[]string{"hold"}, "\xff\xff\xff\x7f", 1, "error 0 setup of"},
		"outside sysctl": {[]string{"hold"}, "\x1c\x00\x00\x00sysctl\x00kernel/core_pattern\x00\x00", 1, "belongs to no namespace"},
		"bad namespaces": {[]string{"init", "mnt", "x"}, "", 1, "error 22 namespaces mnt"},
		"no descriptor":  {[]string{"init", "net", "x"}, "", 1, " join namespace"},
		"never let go":   {[]string{"init", "none", "x"}, "", 0, "pid "},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(program, c.args...)
			cmd.Stdin, cmd.Dir = strings.NewReader(c.stdin), t.TempDir()
			out, _ := cmd.CombinedOutput()
			if code := cmd.ProcessState.ExitCode(); code != c.code || !strings.HasPrefix(string(out), c.says) && !strings.Contains(string(out), c.says) {
				t.Errorf("exit %d, %q, want %d and %q", code, out, c.code, c.says)
			}
		})
	}
}
