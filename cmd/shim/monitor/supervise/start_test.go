package supervise_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Every step of the start fails once: the container is killed, the launcher is told why, and nothing is left.
func TestStartFails(t *testing.T) {
	for name, c := range map[string]struct {
		change func(t *testing.T, p *plan)
		says   string
	}{
		"log directory": {func(t *testing.T, p *plan) { p.Args.LogPath = "/nonexistent/0.log" }, "open log file /nonexistent/0.log: no such file or directory"},
		"log link": {func(t *testing.T, p *plan) {
			p.Args.LogPath = t.TempDir() + "/0.log"
			os.Symlink("/etc/passwd", p.Args.LogPath)
		}, "symbolic link"},
		"socket directory":      {func(t *testing.T, p *plan) { p.Args.Socket = "/nonexistent/s" }, "bind control socket /nonexistent/s: no such file or directory"},
		"socket too long":       {func(t *testing.T, p *plan) { p.Args.Socket = "/tmp/" + strings.Repeat("s", 200) }, "bind control socket"},
		"socket is a directory": {func(t *testing.T, p *plan) { p.Args.Socket = t.TempDir() }, "replace control socket"},
		"no fifo":               {func(t *testing.T, p *plan) { p.Args.Fifo = "/nonexistent/fifo" }, "open /nonexistent/fifo: no such file or directory"},
		"init dies":             {func(t *testing.T, p *plan) { p.InitDie = true }, "ended before it ran the program"},
		"not a child":           {func(t *testing.T, p *plan) { p.Stranger = true }, "is not a child of the monitor"},
	} {
		t.Run(name, func(t *testing.T) {
			p := plan{Script: "echo never"}
			c.change(t, &p)
			b := launch(t, p)
			if got := b.said(); !strings.HasPrefix(got, "error: ") || !strings.Contains(got, c.says) || strings.Count(got, "\n") != 1 {
				t.Errorf("said %q", got)
			}
			<-b.ended
			if code := b.cmd.ProcessState.ExitCode(); code != 1 {
				t.Errorf("ended with %d", code)
			}
			left, err := os.ReadDir(b.dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range left {
				if d.Name() != "0.log" && d.Name() != "exec.fifo" {
					t.Errorf("%s is left", d.Name())
				}
			}
			if text, _ := os.ReadFile(b.log); len(text) > 0 && name != "log link" {
				t.Errorf("the program ran: %q", text)
			}
		})
	}
}

func TestByHand(t *testing.T) {
	for _, args := range [][]string{nil, {"--help"}, {"version=1"}, {"version=2", "id=x"}} {
		out, err := exec.Command(filepath.Clean(binary), args...).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.HasPrefix(string(out), "runtimed-monitor: ") {
			t.Errorf("%q: %q, %v", args, out, err)
		}
	}
}
