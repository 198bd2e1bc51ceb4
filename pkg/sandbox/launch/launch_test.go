package launch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// fake is a launcher whose shim is a shell script: it gets the shim's descriptors and arguments.
func fake(t *testing.T, script string) *Launcher {
	t.Helper()
	path := filepath.Join(t.TempDir(), "shim")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := New(Options{Program: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.Close()
		wantNoChildren(t)
	})
	return l
}

func record(t *testing.T) spec.Launch {
	t.Helper()
	l := spec.Launch{SandboxID: "s", ContainerID: "0123456789abcdef01234567", CgroupPath: "/g"}
	l.Layout = spec.Layout{Root: t.TempDir(), Run: t.TempDir(), Netns: t.TempDir()}
	if err := os.MkdirAll(l.Layout.Container(l.SandboxID, l.ContainerID), 0o700); err != nil {
		t.Fatal(err)
	}
	return l
}

func wantNoChildren(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if left := children(); left == "" {
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("children %s are not reaped", left)
		}
	}
}

func children() string {
	tasks, _ := filepath.Glob("/proc/self/task/*/children")
	var out string
	for _, f := range tasks {
		b, _ := os.ReadFile(f)
		out += string(b)
	}
	return out
}

func nothing(spec.Process) error { return nil }

const awaitGo = "head -c1 <&5 >/dev/null; "

func TestStart(t *testing.T) {
	for name, c := range map[string]struct{ script, failure string }{
		"ready":         {awaitGo + "echo ready >&4; exec 4>&-; exec sleep 0.05", ""},
		"reason":        {awaitGo + "echo 'error: no such file' >&4; exit 1", "no such file"},
		"dies":          {awaitGo + "echo gone wrong >&2; exit 3", "the shim ended without a report (exit code 3: gone wrong)"},
		"killed":        {awaitGo + "kill -9 $$", "the shim ended without a report (signal killed)"},
		"torn":          {awaitGo + "printf 'read' >&4", "without a report"},
		"babble":        {awaitGo + "echo hello >&4; exec 4>&-; sleep 100", "without a report"},
		"endless":       {awaitGo + "exec yes error: >&4", "without a report"},
		"no line end":   {awaitGo + "head -c 100000 /dev/zero >&4; sleep 100", "without a report"},
		"dies at once":  {"exit 4", ""},
		"ready and ill": {awaitGo + "echo ready >&4; echo 'error: x' >&4", "without a report"},
	} {
		err := fake(t, c.script).Start(t.Context(), record(t), nothing)
		var s *spec.StartError
		switch {
		case name == "dies at once": // before or after its go was written
			if err == nil {
				t.Errorf("%s: no error", name)
			}
		case c.failure == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.failure != "" && (!errors.As(err, &s) || !strings.Contains(s.Message, c.failure)):
			t.Errorf("%s: got %v, want %q", name, err, c.failure)
		}
	}
}

func TestStartHandsOver(t *testing.T) {
	l := record(t)
	dir := l.Layout.Container(l.SandboxID, l.ContainerID)
	script := awaitGo + `
{ echo $1 $2; pwd; env | sort | grep -v ^PWD= ; ls /proc/$$/fd | grep '^[0-9]$' | tr '\n' ' '; echo; readlink /proc/$$/ns/mnt; readlink /proc/self/fd/3; cut -d' ' -f6 /proc/$$/stat; echo $$; } > ` + dir + `/seen
echo ready >&4`
	var p spec.Process
	if err := fake(t, script).Start(t.Context(), l, func(q spec.Process) error { p = q; return nil }); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(dir + "/seen")
	if err != nil {
		t.Fatal(err)
	}
	ours, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	seen := strings.Split(string(b), "\n")
	want := []string{"create " + dir, "/", "GOMAXPROCS=1", "0 1 2 3 4 5 "}
	for i, w := range want {
		if got := seen[i]; got != w && !(i == 3 && strings.HasPrefix(got, w)) { // what this process inherited itself, a child does too
			t.Errorf("line %d is %q, want %q", i, got, w)
		}
	}
	if !strings.Contains(string(b), ours+"\n") || strings.Count(string(b), ours) != 1 {
		t.Errorf("the shim must have a mount namespace of its own and %s as descriptor 3:\n%s", ours, b)
	}
	if pid := strconv.Itoa(p.PID); p.PID == 0 || p.StartTicks == 0 || p.BootID == "" || strings.Count(string(b), pid+"\n") != 2 {
		t.Errorf("recorded %+v; session and pid of:\n%s", p, b)
	}
}

func TestStartRefusedByTheRecord(t *testing.T) {
	l := record(t)
	marker := filepath.Join(t.TempDir(), "went")
	full := errors.New("disk full")
	if err := fake(t, "read x <&5 && touch "+marker+"; sleep 100").Start(t.Context(), l, func(spec.Process) error { return full }); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(marker); err == nil {
		t.Error("the shim got its go")
	}
}

func TestStartEndsWithItsContext(t *testing.T) {
	cause := errors.New("enough")
	for name, script := range map[string]string{"silent": "sleep 100", "after its go": awaitGo + "exec sleep 100"} {
		ctx, cancel := context.WithCancelCause(t.Context())
		err := fake(t, script).Start(ctx, record(t), func(spec.Process) error {
			time.AfterFunc(20*time.Millisecond, func() { cancel(cause) })
			return nil
		})
		if !errors.Is(err, cause) {
			t.Errorf("%s: got %v", name, err)
		}
		wantNoChildren(t)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if err := fake(t, "sleep 100").Start(ctx, record(t), nothing); !errors.Is(err, cause) {
		t.Errorf("ended before: got %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, p := range []string{"", "runtimed-shim", "/absent", "/etc/passwd"} {
		if _, err := New(Options{Program: p}); err == nil {
			t.Errorf("%q: accepted", p)
		}
	}
}

func TestAlive(t *testing.T) {
	l := record(t)
	s := fake(t, "")
	lock := filepath.Join(l.Layout.Container(l.SandboxID, l.ContainerID), spec.LockFile)
	check := func(what string, want int) {
		t.Helper()
		if pid, alive := s.Alive(l.Layout, l.SandboxID, l.ContainerID); pid != want || alive != (want != 0) {
			t.Errorf("%s: got %d, %v, want %d", what, pid, alive, want)
		}
	}
	check("no file", 0)
	if err := os.WriteFile(lock, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	check("no lock", 0)
	// flock(1) takes another kind of lock; Debian's busybox has none of this one. So a child of this program's own.
	holder := hold(t, lock)
	check("held", holder)
	check("held, asked again", holder)
	unix.Kill(holder, unix.SIGKILL)
	wantNoChildren(t)
	check("dead", 0)
	os.Remove(lock)
	if err := os.Symlink("/dev/null", lock); err != nil {
		t.Fatal(err)
	}
	check("a link", 0)
	os.Remove(lock)
	if err := unix.Mkfifo(lock, 0o600); err != nil {
		t.Fatal(err)
	}
	check("a fifo", 0)
}

// hold starts a child that holds the lock.
func hold(t *testing.T, path string) int {
	t.Helper()
	r, w, err := pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c, err := startChild("/proc/self/exe", []string{holdVerb, path}, 0, w)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	if n, err := r.Read(make([]byte, 1)); n != 1 {
		t.Fatalf("the holder: %v, %s", err, c.complaints.text())
	}
	return c.handle.PID()
}

const holdVerb = "hold-the-lock"

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == holdVerb {
		f, err := os.OpenFile(os.Args[2], os.O_RDWR, 0)
		if err == nil {
			err = unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		unix.Write(3, []byte{1})
		time.Sleep(time.Minute)
	}
	os.Exit(m.Run())
}

type sweeper struct{ swept []string }

func (s *sweeper) Remove(_ context.Context, path string) error {
	s.swept = append(s.swept, path)
	return errors.New("busy")
}

func (s *sweeper) Below(path string) ([]string, error) {
	if path != "/g" {
		return nil, errors.New("not there")
	}
	return []string{"exec-1", "execute", "init", "exec-2"}, nil
}

// What a former daemon's sessions left goes, and nothing else; one that stays does not keep the others.
func TestEndSessions(t *testing.T) {
	s, groups := fake(t, "exit 1"), &sweeper{}
	s.groups = groups
	l := record(t)
	if err := s.EndSessions(t.Context(), l); err == nil || strings.Join(groups.swept, " ") != "/g/exec-1 /g/exec-2" {
		t.Errorf("%q, %v", groups.swept, err)
	}
	l.CgroupPath = "/other"
	if err := s.EndSessions(t.Context(), l); err == nil || !strings.Contains(err.Error(), "not there") {
		t.Errorf("%v", err)
	}
	s.groups = nil
	if err := s.EndSessions(t.Context(), l); err != nil {
		t.Errorf("without groups: %v", err)
	}
}

func TestExec(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		kind   error // nil: no error
		code   int32
		out    string
		swept  bool
	}{
		"ends":            {`cat <&3 >&6; echo err >&7; echo '{"ExitCode":5}' >&4`, nil, 5, `{"Version":3,"Args":["a","b"],"Timeout":1000000000,"Group":"exec-`, false},
		"time limit":      {`echo '{"ExitCode":137,"TimedOut":true}' >&4`, context.DeadlineExceeded, 137, "", false},
		"failure":         {`echo '{"Failure":"the container is stopped"}' >&4`, errdefs.ErrFailedPrecondition, 0, "", false},
		"dies":            {`echo part >&6; echo why >&2; kill -9 $$`, errdefs.ErrUnavailable, 0, "part", true},
		"babbles":         {`echo hello >&4`, errdefs.ErrUnavailable, 0, "", true},
		"strange code":    {`echo '{"ExitCode":500}' >&4`, errdefs.ErrUnavailable, 0, "", true},
		"does not end":    {`echo '{"ExitCode":1}' >&4; exec 4>&- 6>&- 7>&-; exec sleep 100`, nil, 1, "", false},
		"leaves children": {`echo out >&6; sleep 2 4>&- 5>&- & echo '{"ExitCode":0}' >&4`, nil, 0, "out", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := fake(t, c.script)
			groups := &sweeper{}
			s.groups = groups
			r, err := s.Exec(t.Context(), record(t), spec.ExecProfile{}, spec.ExecRequest{Command: []string{"a", "b"}, Timeout: time.Second})
			if spec.KindOf(err) != c.kind || r.ExitCode != c.code || !strings.HasPrefix(string(r.Stdout), c.out) {
				t.Errorf("got %d, %q, %v", r.ExitCode, r.Stdout, err)
			}
			if swept := len(groups.swept) == 1 && strings.HasPrefix(groups.swept[0], "/g/exec-"); swept != c.swept {
				t.Errorf("swept %v", groups.swept)
			}
		})
	}
}

// A stage that does not answer ends with its caller's patience, however much it was asked.
func TestExecStageHangs(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	s := fake(t, "cat <&5; exec 3<&-; echo '{\"Failure\":\"the launcher has gone\"}' >&4")
	_, err := s.Exec(ctx, record(t), spec.ExecProfile{}, spec.ExecRequest{Command: []string{strings.Repeat("x", 1<<20)}})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestCollect(t *testing.T) {
	slots := make(chan struct{}, 1)
	small, large, waiting := &room{slots: slots}, &room{slots: slots}, &room{slots: slots}
	feed := func(r *room, n int, closes bool) (*collector, *os.File) {
		from, to, err := pipe()
		if err != nil {
			t.Fatal(err)
		}
		c := collect(from, r)
		if n > 0 {
			to.Write(make([]byte, n))
		}
		if closes {
			to.Close()
		}
		return c, to
	}
	big, bigEnd := feed(large, smallStream+1, false)
	for len(slots) == 0 { // until it has entered
		time.Sleep(time.Millisecond)
	}
	if c, _ := feed(small, smallStream, true); len(c.bytes()) != smallStream {
		t.Error("a small stream has to wait")
	}
	second, secondEnd := feed(waiting, smallStream+1, true)
	select {
	case <-second.done:
		t.Error("a second large stream does not wait")
	case <-time.After(20 * time.Millisecond):
	}
	bigEnd.Close()
	if len(big.bytes()) != smallStream+1 || len(second.bytes()) != smallStream+1 || len(slots) != 0 {
		t.Errorf("%d, %d bytes, %d slots taken", len(big.bytes()), len(second.bytes()), len(slots))
	}
	secondEnd.Close()

	// Given up while it waits, and while it reads.
	slots <- struct{}{}
	third, thirdEnd := feed(&room{slots: slots}, smallStream+1, false)
	third.stop()
	third.stop()
	idle, idleEnd := feed(&room{slots: slots}, 3, false)
	idle.stop()
	if n := len(third.bytes()); n > smallStream {
		t.Errorf("%d bytes without the right", n)
	}
	idle.bytes()
	thirdEnd.Close()
	idleEnd.Close()
}
