package streaming

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/integration/daemontest"
)

func TestMain(m *testing.M) { os.Exit(daemontest.Main(m)) }

// transports are those of crictl.
var transports = []string{"spdy", "websocket"}

func started(t *testing.T, config string) *daemontest.Daemon {
	t.Helper()
	d := daemontest.Start(t, daemontest.Options{Config: config})
	d.Warm()
	before := d.Snapshot()
	t.Cleanup(func() {
		d.RemoveAll()
		os.RemoveAll(d.Logs)
		daemontest.Same(t, before, d.Snapshot())
	})
	return d
}

// run makes a pod with one container.
func run(t *testing.T, d *daemontest.Daemon, name, script string, change func(*v1.ContainerConfig)) (pod, ctr string) {
	t.Helper()
	p, c := d.PodConfig(name), d.ContainerConfig("main", script)
	if change != nil {
		change(c)
	}
	pod = d.RunPod(p)
	return pod, d.RunContainer(pod, p, c)
}

// piped runs crictl with input through a pipe.
func piped(t *testing.T, d *daemontest.Daemon, input io.Reader, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.Command(filepath.Join(daemontest.Bin(t), "crictl"), d.CrictlArgs(args...)...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = input, &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func TestCrictlExec(t *testing.T) {
	d := started(t, "")
	_, ctr := run(t, d, "exec", daemontest.Sleep, nil)
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			exec := func(flags string, cmd ...string) []string {
				args := []string{"exec", "--transport", transport}
				if flags != "" {
					args = append(args, flags)
				}
				return append(append(args, ctr), cmd...)
			}
			out, errs, code := piped(t, d, nil, exec("", "sh", "-c", "echo out; echo err >&2; exit 7")...)
			if out != "out\n" || !strings.Contains(errs, "err\n") || !strings.Contains(errs, "exit code 7") || code == 0 {
				t.Errorf("without input: %q, %q, %d", out, errs, code)
			}
			big := bytes.Repeat([]byte("0123456789abcdef"), 256<<10)
			out, errs, code = piped(t, d, bytes.NewReader(big), exec("-i", "cat")...)
			if out != string(big) || code != 0 {
				t.Errorf("%d bytes through cat: %d bytes, %q, %d", len(big), len(out), errs, code)
			}
			out, _, code = piped(t, d, strings.NewReader("ab\ncd\n"), exec("-i", "sh", "-c", "wc -l; echo after")...)
			if strings.TrimSpace(out) != "2\nafter" || code != 0 {
				t.Errorf("half-closed: %q, %d", out, code)
			}
			_, errs, code = piped(t, d, nil, exec("", "/no/such")...)
			if !strings.Contains(errs, "/no/such") || !strings.Contains(errs, "127") || code == 0 {
				t.Errorf("a program that is not there: %q, %d", errs, code)
			}

			term := d.Terminal("crictl", d.CrictlArgs(exec("-it", "sh")...)...)
			term.Expect("# ")
			term.Type("stty size\r")
			term.Expect(fmt.Sprintf("%d %d", daemontest.Rows, daemontest.Columns))
			term.Resize(120, 50)
			term.Type("while [ \"$(stty size)\" != '50 120' ]; do sleep 0.1; done; echo resi''zed\r")
			term.Expect("resized")
			term.Type("sleep 4321\r")
			daemontest.Eventually(t, daemontest.Patience, func() error {
				if d.Exec(ctr, "ps -o args | grep '^sleep 432[1]' || true") == "" {
					return errors.New("the command does not run yet")
				}
				return nil
			})
			term.Type("\x03")
			term.Expect("# ")
			term.Type("test -t 2 && echo a ter''minal; exit 3\r")
			term.Expect("a terminal")
			term.Expect("exit code 3")
			term.Wait()
		})
	}
}

func TestCrictlAttach(t *testing.T) {
	d := started(t, "")
	for _, transport := range transports {
		t.Run("a terminal, "+transport, func(t *testing.T) {
			_, ctr := run(t, d, "tty-"+transport, "while read line; do stty size; echo \"got $line\"; done; echo end", func(c *v1.ContainerConfig) {
				c.Stdin, c.Tty = true, true
			})
			one := d.Terminal("crictl", d.CrictlArgs("attach", "--transport", transport, "-it", ctr)...)
			two := d.Terminal("crictl", d.CrictlArgs("attach", "--transport", transport, "-it", ctr)...)
			// What is typed before crictl has its terminal raw is typed all the same.
			one.Type("hello\r")
			one.Expect("got hello")
			daemontest.Eventually(t, daemontest.Patience, func() error {
				one.Type("again\r")
				time.Sleep(100 * time.Millisecond)
				if s := two.Screen(); !strings.Contains(s, "got again") {
					return fmt.Errorf("the other's screen shows %q", s)
				}
				return nil
			})
			two.Expect("got again")
			two.Type("two\r")
			one.Expect("got two")
			two.Type("\x04") // end of file, to the program
			d.Ended(ctr)
			one.Expect("end")
			one.Wait()
			two.Wait()
		})
		t.Run("stdin once, "+transport, func(t *testing.T) {
			_, ctr := run(t, d, "once-"+transport, "cat; echo end; echo err >&2", func(c *v1.ContainerConfig) {
				c.Stdin, c.StdinOnce = true, true
			})
			out, errs, code := piped(t, d, strings.NewReader("hello\n"), "attach", "--transport", transport, "-i", ctr)
			if code != 0 || !strings.HasPrefix(out, "hello\n") {
				t.Errorf("%q, %q, %d", out, errs, code)
			}
			if s := d.Ended(ctr); s.ExitCode != 0 {
				t.Errorf("%v", s)
			}
		})
	}
}

// forwarded starts crictl's port-forward and returns where it listens.
func forwarded(t *testing.T, d *daemontest.Daemon, transport, pod string, port int) string {
	t.Helper()
	cmd := exec.Command(filepath.Join(daemontest.Bin(t), "crictl"), d.CrictlArgs("port-forward", "--transport", transport, pod, fmt.Sprintf(":%d", port))...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	var said []byte
	b := make([]byte, 1024)
	for {
		n, err := out.Read(b)
		said = append(said, b[:n]...)
		if m := regexp.MustCompile(`from (127\.0\.0\.1:\d+)`).FindSubmatch(said); m != nil {
			go io.Copy(io.Discard, out)
			return string(m[1])
		}
		if err != nil {
			t.Fatalf("port-forward said %q and %q", said, errs.String())
		}
	}
}

// ask sends a request, ends its half and reads the rest.
func ask(address, request string) (string, error) {
	c, err := net.DialTimeout("tcp", address, daemontest.Patience)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(daemontest.Patience))
	if _, err := io.WriteString(c, request); err != nil {
		return "", err
	}
	c.(*net.TCPConn).CloseWrite()
	b, err := io.ReadAll(c)
	return string(b), err
}

func TestCrictlPortForward(t *testing.T) {
	d := started(t, "")
	const server = "trap 'exit 0' TERM; probe count 127.0.0.1:80 four & probe count '[::1]:81' six & wait"
	pod, ctr := run(t, d, "forward", server, func(c *v1.ContainerConfig) {
		c.Mounts = append(c.Mounts, &v1.Mount{HostPath: daemontest.Go(t, "./integration/e2e/probe"), ContainerPath: "/usr/probe/probe", Readonly: true})
		c.Envs = append(c.Envs, &v1.KeyValue{Key: "PATH", Value: []byte("/bin:/usr/probe")})
	})
	daemontest.Eventually(t, daemontest.Patience, func() error { // crictl leaves at the first refusal
		b, err := os.ReadFile(d.Status(ctr).LogPath)
		if strings.Count(string(b), "listening") != 2 {
			return fmt.Errorf("the servers say %q, %v", b, err)
		}
		return nil
	})
	host := d.PodConfig("on-host")
	host.Linux.SecurityContext.NamespaceOptions.Network = v1.NamespaceMode_NODE
	onHost := d.RunPod(host)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b, _ := io.ReadAll(c)
				fmt.Fprintf(c, "host %d", len(b))
			}()
		}
	}()
	_, text, _ := net.SplitHostPort(l.Addr().String())
	hostPort, _ := strconv.Atoi(text)
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			for _, c := range []struct {
				pod, word string
				port      int
			}{{pod, "four", 80}, {pod, "six", 81}, {onHost, "host", hostPort}} {
				address := forwarded(t, d, transport, c.pod, c.port)
				for _, n := range []int{1, 1 << 20} {
					want := fmt.Sprintf("%s %d", c.word, n)
					if got, err := ask(address, strings.Repeat("x", n)); err != nil || got != want {
						t.Errorf("%q, %v, not %q", got, err, want)
					}
				}
			}
		})
	}
}

func TestStreamingOverIPv6(t *testing.T) {
	d := started(t, "[streaming]\naddress = \"::1\"\n")
	_, ctr := run(t, d, "six", daemontest.Sleep, nil)
	for _, transport := range transports {
		out, errs, code := piped(t, d, strings.NewReader("six"), "exec", "--transport", transport, "-i", ctr, "cat")
		if out != "six" || code != 0 {
			t.Errorf("%s: %q, %q, %d", transport, out, errs, code)
		}
	}
	r, err := d.Conn().Runtime.Exec(daemontest.Ctx(t), &v1.ExecRequest{ContainerId: ctr, Cmd: []string{"true"}, Stdout: true})
	if err != nil || !strings.HasPrefix(r.GetUrl(), "http://[::1]:") {
		t.Errorf("%q, %v", r.GetUrl(), err)
	}
}
