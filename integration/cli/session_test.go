package cli

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/runtimed/runtimed/integration/daemontest"
)

// piped runs the command line with input through a pipe.
func piped(t *testing.T, d *daemontest.Daemon, input io.Reader, args ...string) daemontest.Output {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(filepath.Join(daemontest.Bin(t), "runtimed"), d.CLIArgs(args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = input, &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return daemontest.Output{Stdout: out.String(), Stderr: errs.String(), Code: cmd.ProcessState.ExitCode()}
}

func TestSessionsOnTheCommandLine(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	warm(t, d)
	before := d.Snapshot()
	if got := d.CLI("run", "-d", "--name", "one", d.Image, "sh", "-c", daemontest.Sleep); got.Code != 0 {
		t.Fatalf("%+v", got)
	}
	big := strings.Repeat("0123456789abcdef", 256<<10)
	want(t, "exec -i", piped(t, d, strings.NewReader(big), "exec", "-i", "one", "cat"), 0, big)
	want(t, "exec, half-closed", piped(t, d, strings.NewReader("x\n"), "exec", "-i", "one", "sh", "-c", "wc -l; exit 5"), 5, "1\n")
	want(t, "exec without input", piped(t, d, strings.NewReader("x"), "exec", "one", "cat"), 0, "")
	want(t, "exec of nothing", piped(t, d, nil, "exec", "one", "/no/such"), 127, "")
	if got := d.CLI("exec", "--timeout", "1s", "one", "sleep", "4321"); got.Code != 125 || !strings.Contains(got.Stderr, "longer than 1s") {
		t.Errorf("exec with a timeout: %+v", got)
	}

	term := d.Terminal("runtimed", d.CLIArgs("exec", "-it", "one", "sh")...)
	term.Expect("# ")
	term.Type("stty size\r")
	term.Expect(fmt.Sprintf("%d %d", daemontest.Rows, daemontest.Columns))
	term.Resize(120, 50)
	term.Type("while [ \"$(stty size)\" != '50 120' ]; do sleep 0.1; done; echo resi''zed\r")
	term.Expect("resized")
	term.Type("exit 3\r")
	if code := term.Wait(); code != 3 {
		t.Errorf("exec -it ended with %d", code)
	}
	term = d.Terminal("runtimed", d.CLIArgs("exec", "-it", "one", "sh")...)
	term.Expect("# ")
	term.Signal(syscall.SIGTERM)
	if code := term.Wait(); code != 143 {
		t.Errorf("exec -it after SIGTERM ended with %d", code)
	}
	want(t, "rm", d.CLI("rm", "-f", "one"), 0, "one")
	daemontest.Same(t, before, d.Snapshot())
}

func TestRunWithInputAndTerminal(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	warm(t, d)
	before := d.Snapshot()
	want(t, "run -i", piped(t, d, strings.NewReader("a\nb\n"), "run", "--rm", "-i", d.Image, "sh", "-c", "cat; exit 4"), 4, "a\nb\n")

	term := d.Terminal("runtimed", d.CLIArgs("run", "--rm", "-it", d.Image, "sh", "-c", "echo early; read x; echo \"got $x\"; exit 6")...)
	term.Expect("early")
	term.Type("hello\r")
	term.Expect("got hello")
	if code := term.Wait(); code != 6 {
		t.Errorf("run -it ended with %d", code)
	}
	term = d.Terminal("runtimed", d.CLIArgs("run", "--rm", "-it", d.Image, "echo", "at once")...)
	term.Expect("at once")
	if code := term.Wait(); code != 0 {
		t.Errorf("a short run -it ended with %d", code)
	}

	term = d.Terminal("runtimed", d.CLIArgs("run", "-it", "--name", "kept", d.Image, "sh", "-c", "while read x; do echo \"got $x\"; done; exit 7")...)
	term.Type("one\r")
	term.Expect("got one")
	term.Type("\x10\x11")
	if code := term.Wait(); code != 0 {
		t.Errorf("a run that was left ended with %d", code)
	}
	term = d.Terminal("runtimed", d.CLIArgs("attach", "--detach-keys", "ctrl-a,d", "kept")...)
	daemontest.Eventually(t, daemontest.Patience, func() error {
		term.Type("two\r")
		time.Sleep(100 * time.Millisecond)
		if s := term.Screen(); !strings.Contains(s, "got two") {
			return fmt.Errorf("%q", s)
		}
		return nil
	})
	term.Type("\x01d")
	if code := term.Wait(); code != 0 {
		t.Errorf("an attach that was left ended with %d", code)
	}
	term = d.Terminal("runtimed", d.CLIArgs("attach", "kept")...)
	daemontest.Eventually(t, daemontest.Patience, func() error {
		term.Type("three\r")
		time.Sleep(100 * time.Millisecond)
		if s := term.Screen(); !strings.Contains(s, "got three") {
			return fmt.Errorf("%q", s)
		}
		return nil
	})
	term.Type("\x04")
	if code := term.Wait(); code != 7 {
		t.Errorf("attach ended with %d, not the container's code", code)
	}
	want(t, "rm", d.CLI("rm", "-f", "kept"), 0, "kept")
	daemontest.Same(t, before, d.Snapshot())
}

func TestPortForwardOnTheCommandLine(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	warm(t, d)
	before := d.Snapshot()
	if got := d.CLI("run", "-d", "--name", "web", d.Image, "httpd", "-f", "-h", "/data"); got.Code != 0 {
		t.Fatalf("%+v", got)
	}
	cmd := exec.Command(filepath.Join(daemontest.Bin(t), "runtimed"), d.CLIArgs("port-forward", "web", ":80")...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 256)
	n, _ := out.Read(line)
	address := strings.Fields(string(line[:n]))[2]
	daemontest.Eventually(t, daemontest.Patience, func() error {
		c, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(daemontest.Patience))
		io.WriteString(c, "GET /seed HTTP/1.0\r\n\r\n")
		b, err := io.ReadAll(c)
		if !strings.HasSuffix(string(b), "from the image\n") {
			return fmt.Errorf("%q, %v", b, err)
		}
		return nil
	})
	cmd.Process.Signal(syscall.SIGTERM)
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 143 {
		t.Errorf("port-forward ended with %d", code)
	}
	want(t, "rm", d.CLI("rm", "-f", "web"), 0, "web")
	daemontest.Same(t, before, d.Snapshot())
}
