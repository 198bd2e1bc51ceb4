package supervise_test

import (
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

var timestamp = regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z `)

// untimed returns the log without its timestamps.
func (b *box) untimed() string {
	b.t.Helper()
	text, err := os.ReadFile(b.log)
	if err != nil {
		b.t.Fatal(err)
	}
	lines := strings.Count(string(text), "\n")
	if n := len(timestamp.FindAllIndex(text, -1)); n != lines {
		b.t.Errorf("%d of %d lines begin with a timestamp", n, lines)
	}
	return timestamp.ReplaceAllString(string(text), "")
}

func TestExitCodes(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		code   int
	}{
		"zero": {"exit 0", 0}, "seven": {"exit 7", 7}, "255": {"exit 255", 255},
		"TERM": {"kill -TERM $$", 143}, "KILL": {"kill -KILL $$", 137}, "SEGV": {"ulimit -c 0; kill -SEGV $$", 139},
	} {
		t.Run(name, func(t *testing.T) {
			before := time.Now().UnixNano()
			e := start(t, plan{Script: c.script}).wait()
			if e.Code != c.code || e.Version != 1 || e.OOMKilled || e.Reason != "" || e.LogLost != 0 {
				t.Errorf("got %+v", e)
			}
			if e.FinishedAt < before || e.FinishedAt > time.Now().UnixNano() {
				t.Errorf("finished at %d", e.FinishedAt)
			}
		})
	}
}

func TestOutput(t *testing.T) {
	b := start(t, plan{Script: "echo one; echo two >&2; sleep 0.1; printf 'three\r\n\nfour'"})
	e := b.wait()
	got := b.untimed()
	want := []string{"stdout F one\n", "stderr F two\n", "stdout F three\r\nstdout F \nstdout P four\n"}
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("%q is not in the log %q", w, got)
		}
	}
	if e.Code != 0 || len(got) != len(strings.Join(want, "")) {
		t.Errorf("log %q, exit %+v", got, e)
	}
	if st, err := os.Stat(b.log); err != nil || st.Mode().Perm() != 0o640 {
		t.Errorf("log: %v, %v", st.Mode(), err)
	}
}

func TestStarted(t *testing.T) {
	b := start(t, plan{Script: "sleep 60"})
	s, err := b.started()
	if err != nil {
		t.Fatal(err)
	}
	if s.Version != 1 || s.Init.PID <= 0 || s.Init.StartTicks == 0 || s.Init.BootID != "boot" || s.StartedAt == 0 {
		t.Errorf("got %+v", s)
	}
	if _, err := os.Stat(b.log); err != nil {
		t.Error(err)
	}
	if st, err := os.Stat(b.socket); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", st, err)
	}
	if got := b.ask("1 ping"); got != "1 ok" {
		t.Errorf("ping: %q", got)
	}
	syscall.Kill(s.Init.PID, syscall.SIGKILL)
	if e := b.wait(); e.Code != 137 {
		t.Errorf("got %+v", e)
	}
}

func TestSignalsAreIgnored(t *testing.T) {
	b := start(t, plan{Script: "read x", Stdin: true})
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE,
		syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM} {
		b.cmd.Process.Signal(s)
		if got := b.ask("1 ping"); got != "1 ok" {
			t.Errorf("after %v: %q", s, got)
		}
	}
}

func TestStoppedInitIsReaped(t *testing.T) {
	b := start(t, plan{Script: "kill -STOP $$; sleep 60"})
	s, err := b.started()
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "init stops", func() bool { return procState(s.Init.PID) == 'T' })
	if got := b.ask("1 ping"); got != "1 ok" {
		t.Errorf("ping: %q", got)
	}
	syscall.Kill(s.Init.PID, syscall.SIGKILL)
	if e := b.wait(); e.Code != 137 {
		t.Errorf("got %+v", e)
	}
}

func TestLeftChildIsReaped(t *testing.T) {
	b := start(t, plan{Script: "sleep 60", Orphan: true})
	children := "/proc/" + itoa(b.cmd.Process.Pid) + "/task/" + itoa(b.cmd.Process.Pid) + "/children"
	eventually(t, "only init is left", func() bool {
		text, err := os.ReadFile(children)
		return err == nil && len(strings.Fields(string(text))) == 1
	})
}

func TestTTY(t *testing.T) {
	b := start(t, plan{TTY: true, Script: "echo hello; echo err >&2; while [ ! -e $DIR/go ]; do sleep 0.05; done; stty size; exit 4"})
	if got := b.ask("1 resize 132 43"); got != "1 ok" {
		t.Errorf("resize: %q", got)
	}
	if err := os.WriteFile(b.dir+"/go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	e := b.wait()
	if got := b.untimed(); got != "stdout F hello\r\nstdout F err\r\nstdout F 43 132\r\n" {
		t.Errorf("log %q", got)
	}
	if e.Code != 4 {
		t.Errorf("got %+v", e)
	}
	t.Logf("ended after %v", time.Since(begin))
}

// A program may close its terminal for a while: that is not the terminal's end.
func TestTTYIsClosedAndOpenedAgain(t *testing.T) {
	b := start(t, plan{TTY: true, Script: "t=$(tty); echo a; exec </dev/null >/dev/null 2>&1; sleep 0.3; echo b >$t; sleep 0.1; echo c >$t"})
	b.wait()
	if got := b.untimed(); got != "stdout F a\r\nstdout F b\r\nstdout F c\r\n" {
		t.Errorf("log %q", got)
	}
}

func TestStdinStaysOpen(t *testing.T) {
	b := start(t, plan{Stdin: true, Script: "read -r x; echo ended"})
	s, err := b.started()
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "init sleeps in read", func() bool { return procState(s.Init.PID) == 'S' })
	if got := b.untimed(); got != "" {
		t.Errorf("log %q", got)
	}
	b = start(t, plan{Script: "read -r x; echo ended"})
	b.wait()
	if got := b.untimed(); got != "stdout F ended\n" {
		t.Errorf("log %q", got)
	}
}

func TestNoLog(t *testing.T) {
	b2 := launch(t, func() plan {
		p := plan{Script: "head -c 1000000 /dev/zero; while [ ! -e $DIR/go ]; do sleep 0.05; done"}
		p.Args.LogPath = "none"
		return p
	}())
	if got := b2.said(); got != "ready\n" {
		t.Fatal(got)
	}
	eventually(t, "all is drained", func() bool { return b2.ask("1 stats") == "1 ok read 1000000 lost 0" })
	os.WriteFile(b2.dir+"/go", nil, 0o600)
	if e := b2.wait(); e.Code != 0 || e.LogLost != 0 {
		t.Errorf("got %+v", e)
	}
}

func TestUnfinishedLineIsShown(t *testing.T) {
	b := start(t, plan{Script: "printf prompt; sleep 60"})
	eventually(t, "the prompt is in the log", func() bool { return b.untimed() == "stdout P prompt\n" })
}

func TestExitIsNeverReplaced(t *testing.T) {
	b := start(t, plan{Script: "while [ ! -e $DIR/go ]; do sleep 0.05; done; exit 9"})
	const other = `{"Version":1,"Code":42}`
	if err := os.WriteFile(b.dir+"/exit.json", []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(b.dir+"/go", nil, 0o600)
	if e := b.wait(); e.Code != 42 {
		t.Errorf("got %+v", e)
	}
}
