package daemontest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/cmd/runtimed/client"
	"github.com/runtimed/runtimed/integration/registrytest"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// TB is the part of testing.TB that is needed.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
	Logf(format string, args ...any)
	Failed() bool
	Cleanup(func())
}

// Options of Start; all have defaults.
type Options struct {
	// Config is appended to the daemon's configuration file: whole tables that Start does not write ([log], [userns], …).
	Config string
	// Network is appended to the table [network].
	Network string
	// Cgroup is appended to the table [cgroup].
	Cgroup string
	// Program is started in the place of runtimed, with the arguments "--config FILE serve"; Env is added to its
	// environment. So a test's own main can pass an observer to the daemon.
	Program string
	Env     []string
	// Libexec is the directory of the other programs; default Bin.
	Libexec string
	// Registry is whose images are pulled; default one of the daemon's own, which holds Busybox as busybox:1.
	Registry *registrytest.Registry
	// NoStart writes the configuration, and leaves the starting to Restart.
	NoStart bool
}

// Daemon is a daemon with directories, a cgroup, a bridge and an nftables table of its own.
type Daemon struct {
	Dir        string // holds everything of it, and is removed with the test
	Layout     spec.Layout
	ConfigFile string
	LogFile    string // what the daemon said, over all its starts
	Logs       string // a directory for the logs of containers
	CgroupRoot string
	Bridge     string
	NftTable   string
	Registry   *registrytest.Registry
	Image      string // reference of the default registry's busybox

	t       TB
	options Options
	bin     string
	process *os.Process
	exited  chan struct{}
	client  *client.Client
}

var count atomic.Int32

// Start starts a daemon, and waits until it serves. At the end of the test it is killed, with all of its containers.
func Start(t TB, o Options) *Daemon {
	t.Helper()
	if os.Getenv(envStage) != "tests" {
		t.Fatalf("TestMain must call daemontest.Main")
	}
	n := count.Add(1)
	dir := fmt.Sprintf("%s/%d", os.Getenv(envDir), n)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatalf("%v", err)
	}
	d := &Daemon{
		Dir: dir, ConfigFile: dir + "/config.toml", LogFile: dir + "/daemon.log", Logs: dir + "/logs",
		Layout:     spec.Layout{Root: dir + "/root", Run: dir + "/run", Netns: dir + "/netns"},
		CgroupRoot: fmt.Sprintf("%s_%d", os.Getenv(envPrefix), n), Bridge: fmt.Sprintf("rt%d", n), NftTable: fmt.Sprintf("rt%d", n),
		t: t, options: o, bin: Bin(t), Registry: o.Registry,
	}
	if err := os.Mkdir(d.Logs, 0o755); err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(d.clean)
	if d.Registry == nil {
		d.Registry = registrytest.New(t, registrytest.Options{})
		d.Registry.MustPush(t, "busybox:1", Busybox(t))
	}
	d.Image = d.Registry.Ref("busybox:1")
	if err := os.WriteFile(d.ConfigFile, []byte(d.config(int(n))), 0o600); err != nil {
		t.Fatalf("%v", err)
	}
	c, err := client.Dial(d.Layout.Socket())
	if err != nil {
		t.Fatalf("%v", err)
	}
	d.client = c
	if !o.NoStart {
		d.Restart()
	}
	return d
}

func (d *Daemon) config(n int) string {
	libexec := d.options.Libexec
	if libexec == "" {
		libexec = d.bin
	}
	return fmt.Sprintf(`version = 1
root = %q
run = %q
netns_dir = %q
libexec = %q
[cgroup]
root = %q
%s
[network]
bridge = %q
nft_table = %q
subnet = "10.%d.0.0/16"
subnet6 = "fd72:756e:74%02x::/64"
%s
[trust]
mode = "off"
[registry.%q]
plain_http = true
%s
`, d.Layout.Root, d.Layout.Run, d.Layout.Netns, libexec, d.CgroupRoot, d.options.Cgroup, d.Bridge, d.NftTable, 100+n%100, n%256, d.options.Network, d.Registry.Host, d.options.Config)
}

// Launch starts the daemon and does not wait: see Serving and Exited.
func (d *Daemon) Launch() {
	d.t.Helper()
	program := d.options.Program
	if program == "" {
		program = filepath.Join(d.bin, "runtimed")
	}
	log, err := os.OpenFile(d.LogFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		d.t.Fatalf("%v", err)
	}
	defer log.Close()
	cmd := exec.Command(program, "--config", d.ConfigFile, "serve")
	cmd.Stdout, cmd.Stderr, cmd.Env = log, log, append(os.Environ(), d.options.Env...)
	if err := cmd.Start(); err != nil {
		d.t.Fatalf("start the daemon: %v", err)
	}
	exited := make(chan struct{})
	go func() { cmd.Wait(); close(exited) }()
	d.process, d.exited = cmd.Process, exited
}

// Restart starts the daemon and waits until it serves.
func (d *Daemon) Restart() {
	d.t.Helper()
	d.Launch()
	if err := d.Serving(20 * time.Second); err != nil {
		d.t.Fatalf("%v\n%s", err, d.Said())
	}
}

// Serving waits until the daemon answers; an error tells that it has not in time, or that it ended.
func (d *Daemon) Serving(within time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	for {
		// A connection of its own: the shared one may be waiting before its next attempt.
		c, err := client.Dial(d.Layout.Socket())
		if err != nil {
			return err
		}
		_, err = c.Runtime.Version(ctx, &v1.VersionRequest{})
		c.Close()
		if err == nil {
			return nil
		}
		select {
		case <-d.exited:
			return fmt.Errorf("the daemon ended before it served")
		case <-ctx.Done():
			return fmt.Errorf("the daemon does not serve after %v: %w", within, err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// PID of the daemon that was started last.
func (d *Daemon) PID() int { return d.process.Pid }

// Exited is closed when the daemon that was started last has ended.
func (d *Daemon) Exited() <-chan struct{} { return d.exited }

// Kill9 kills the daemon with SIGKILL and waits for its end. Its containers run on.
func (d *Daemon) Kill9() {
	d.process.Kill()
	<-d.exited
}

// Stop ends the daemon with SIGTERM. Its containers run on.
func (d *Daemon) Stop() {
	d.t.Helper()
	d.process.Signal(unix.SIGTERM)
	select {
	case <-d.exited:
	case <-time.After(20 * time.Second):
		d.t.Fatalf("the daemon runs 20 s after SIGTERM\n%s", d.Said())
	}
}

// Conn is a client of the daemon; it survives restarts.
func (d *Daemon) Conn() *client.Client { return d.client }

// Said is the end of the daemon's log.
func (d *Daemon) Said() string {
	b, _ := os.ReadFile(d.LogFile)
	if lines := bytes.Split(b, []byte("\n")); len(lines) > 40 {
		b = bytes.Join(lines[len(lines)-40:], []byte("\n"))
	}
	return "the daemon's log ends:\n" + string(b)
}

// clean ends everything that is the daemon's, without asking it.
func (d *Daemon) clean() {
	if d.t.Failed() {
		d.t.Logf("%s", d.Said())
	}
	if d.process != nil {
		d.Kill9()
	}
	if d.client != nil {
		d.client.Close()
	}
	d.killAll()
	RemoveCgroups(d.CgroupRoot)
	for _, m := range mountsBelow(d.Dir) {
		unix.Unmount(m, unix.MNT_DETACH)
	}
	d.dropNetwork()
	if err := os.RemoveAll(d.Dir); err != nil {
		d.t.Logf("%s stays until the test binary ends: %v", d.Dir, err)
	}
}
