package supervise_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/monitor"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// The tests run the real monitor. This test binary plays the other roles: "creator" forks "init", which waits on the
// fifo as libcontainer's does, and becomes the monitor by execve.

const roleKey, planKey = "MONITOR_TEST_ROLE", "MONITOR_TEST_PLAN"

var binary string

func TestMain(m *testing.M) {
	switch os.Getenv(roleKey) {
	case "creator":
		creator()
	case "init":
		initRole()
	case "client":
		clientRole()
	}
	dir, err := os.MkdirTemp("", "runtimed-test-monitor")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, monitor.Binary)
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "github.com/runtimed/runtimed/cmd/shim/monitor")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the monitor: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// plan is what the creator is told.
type plan struct {
	Binary   string
	Script   string // /bin/sh -c
	Args     monitor.Args
	TTY      bool
	Stdin    bool
	Orphan   bool     // the creator leaves a second child behind, which ends after 200 ms
	Groups   []string // cgroup.procs files that init joins
	Stdout   string   // a FIFO that takes the place of the stdout pipe
	InitDie  bool     // init ends instead of waiting on the fifo
	Stranger bool     // InitPID is not the monitor's child
}

func creator() {
	var p plan
	must(json.Unmarshal([]byte(os.Getenv(planKey)), &p))
	a := p.Args
	unix.CloseOnExec(3) // not for init
	a.Status, a.Stdout, a.Stderr, a.Stdin, a.Console = 3, -1, -1, -1, -1
	child := syscall.ProcAttr{Env: []string{roleKey + "=init", planKey + "=" + os.Getenv(planKey)}, Sys: &syscall.SysProcAttr{Setsid: true}}
	var keep []int
	if p.TTY {
		master, slave := openPTY()
		child.Files = []uintptr{uintptr(slave), uintptr(slave), uintptr(slave)}
		child.Sys.Setctty = true
		a.TTY, a.Console, keep = true, master, []int{master}
	} else {
		in, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		must(err)
		if p.Stdin {
			var w int
			in, w = pipe()
			a.Stdin, keep = w, append(keep, w)
		}
		or, ow := pipe()
		er, ew := pipe()
		child.Files = []uintptr{uintptr(in), uintptr(ow), uintptr(ew)}
		a.Stdout, a.Stderr, keep = or, er, append(keep, or, er)
	}
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"init"}, &child)
	must(err)
	self, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	must(err)
	a.InitPID = pid
	fields := strings.Fields(string(self[strings.LastIndexByte(string(self), ')')+1:]))
	a.InitTicks, err = strconv.ParseUint(fields[19], 10, 64)
	must(err)
	if p.Orphan {
		_, err := syscall.ForkExec("/bin/sleep", []string{"sleep", "0.2"}, &syscall.ProcAttr{})
		must(err)
	}
	if p.Stranger {
		a.InitPID = os.Getppid()
	}
	for _, fd := range append(keep, 3) {
		_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0)
		must(err)
	}
	must(syscall.Exec(p.Binary, append([]string{monitor.Binary}, a.Argv()...), []string{"GOMAXPROCS=1"}))
}

func initRole() {
	var p plan
	must(json.Unmarshal([]byte(os.Getenv(planKey)), &p))
	if p.InitDie {
		os.Exit(3)
	}
	for _, g := range p.Groups {
		must(os.WriteFile(g, []byte("0"), 0))
	}
	fd, err := unix.Open(p.Args.Dir+"/exec.fifo", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	must(err)
	_, err = unix.Write(fd, []byte("0"))
	must(err)
	unix.Close(fd)
	must(syscall.Exec("/bin/sh", []string{"sh", "-c", p.Script}, []string{"PATH=/usr/bin:/bin", "DIR=" + p.Args.Dir}))
}

// clientRole sends one packet as another user and prints the answer.
func clientRole() {
	must(syscall.Setuid(65534))
	c, err := net.Dial("unixpacket", os.Args[1])
	must(err)
	c.Write([]byte(os.Args[2]))
	b := make([]byte, 2048)
	n, err := c.Read(b)
	must(err)
	os.Stdout.Write(b[:n])
	os.Exit(0)
}

func pipe() (r, w int) {
	var fds [2]int
	must(unix.Pipe2(fds[:], unix.O_CLOEXEC))
	return fds[0], fds[1]
}

func openPTY() (master, slave int) {
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	must(err)
	must(unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	must(err)
	slave, err = unix.Open("/dev/pts/"+strconv.Itoa(n), unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	must(err)
	return master, slave
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, os.Getenv(roleKey), err)
		os.Exit(99)
	}
}

// box is a running monitor with its container.
type box struct {
	t      testing.TB
	dir    string
	log    string
	socket string
	status *os.File
	cmd    *exec.Cmd
	ended  chan struct{}
}

// launch starts a monitor and does not wait for ready.
func launch(t testing.TB, p plan) *box {
	t.Helper()
	dir := p.Args.Dir
	if dir == "" {
		dir = t.TempDir()
	}
	b := &box{t: t, dir: dir, log: dir + "/0.log", socket: dir + "/c.sock", ended: make(chan struct{})}
	p.Binary = binary
	p.Args.ContainerID, p.Args.Dir, p.Args.BootID = "c1", dir, "boot"
	p.Args.Lock = -1
	if p.Args.Socket == "" {
		p.Args.Socket = b.socket
	}
	switch p.Args.LogPath {
	case "":
		p.Args.LogPath = b.log
	case "none":
		p.Args.LogPath = ""
	default:
		b.log = p.Args.LogPath
	}
	if err := unix.Mkfifo(dir+"/exec.fifo", 0o600); err != nil {
		t.Fatal(err)
	}
	if p.Args.Fifo == "" {
		p.Args.Fifo = dir + "/exec.fifo"
	}
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	b.status = r
	b.cmd = exec.Command("/proc/self/exe")
	b.cmd.Env = append(os.Environ(), roleKey+"=creator", planKey+"="+string(text))
	b.cmd.Stderr = os.Stderr
	b.cmd.ExtraFiles = []*os.File{w}
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	go func() {
		b.cmd.Wait()
		close(b.ended)
	}()
	t.Cleanup(b.stop)
	return b
}

func start(t testing.TB, p plan) *box {
	t.Helper()
	b := launch(t, p)
	if got := b.said(); got != "ready\n" {
		t.Fatalf("the monitor said %q", got)
	}
	return b
}

func (b *box) said() string {
	b.t.Helper()
	text, err := io.ReadAll(b.status)
	if err != nil {
		b.t.Fatal(err)
	}
	return string(text)
}

// stop ends what still runs: init by its recorded pid, then the monitor.
func (b *box) stop() {
	b.status.Close()
	select {
	case <-b.ended:
		return
	default:
	}
	if s, err := b.started(); err == nil {
		syscall.Kill(s.Init.PID, syscall.SIGKILL)
	}
	select {
	case <-b.ended:
	case <-time.After(10 * time.Second):
		b.cmd.Process.Kill()
		<-b.ended
		b.t.Error("the monitor did not end with its container")
	}
}

func (b *box) started() (s spec.Started, err error) { return s, b.read(spec.StartedFile, &s) }

func (b *box) read(name string, v any) error {
	text, err := os.ReadFile(filepath.Join(b.dir, name))
	if err != nil {
		return err
	}
	return json.Unmarshal(text, v)
}

// wait waits for the monitor's end and returns what it stated.
func (b *box) wait() spec.Exit {
	b.t.Helper()
	select {
	case <-b.ended:
	case <-time.After(60 * time.Second):
		b.t.Fatal("the monitor does not end")
	}
	var e spec.Exit
	if err := b.read(spec.ExitFile, &e); err != nil {
		b.t.Fatal(err)
	}
	if code := b.cmd.ProcessState.ExitCode(); code != 0 {
		b.t.Errorf("the monitor ended with %d", code)
	}
	if _, err := os.Lstat(b.socket); !errors.Is(err, os.ErrNotExist) {
		b.t.Errorf("the socket is left: %v", err)
	}
	for _, name := range []string{".exit.json", ".started.json", "exec.fifo"} {
		if _, err := os.Lstat(filepath.Join(b.dir, name)); !errors.Is(err, os.ErrNotExist) {
			b.t.Errorf("%s is left: %v", name, err)
		}
	}
	return e
}

func (b *box) ask(packet string) string {
	b.t.Helper()
	c, err := net.Dial("unixpacket", b.socket)
	if err != nil {
		b.t.Fatal(err)
	}
	defer c.Close()
	return talk(b.t, c, packet)
}

func talk(t testing.TB, c net.Conn, packet string) string {
	t.Helper()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write([]byte(packet)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

// eventually waits for a condition of the world outside this process.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}
