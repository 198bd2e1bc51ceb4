package kill

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/integration/registrytest"
)

// world is a machine of a test's own: mount, network and PID namespaces, a cgroup, a directory, a registry; at any
// moment one daemon, or none.
type world struct {
	*testing.T
	dir, groups string
	holder      *exec.Cmd
	registry    *registrytest.Registry
	image       string
	program     string // of the daemon
	daemon      *exec.Cmd
	ended       chan struct{}
	conn        *grpc.ClientConn
	cri         v1.RuntimeServiceClient
	images      v1.ImageServiceClient
}

var worlds atomic.Int32

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, groups: fmt.Sprintf("/runtimed-test-kill-%d-%d", os.Getpid(), worlds.Add(1)), program: "daemon"}
	var err error
	if w.dir, err = os.MkdirTemp("", "kill"); err != nil {
		t.Fatal(err)
	}
	os.Chmod(w.dir, 0o755) // a pod's root searches it
	t.Cleanup(w.end)
	w.hold()
	for _, sub := range []string{"libexec", "logs"} {
		if err := os.Mkdir(filepath.Join(w.dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []string{"runtimed-shim", "runtimed-unpack", "runtimed-monitor", "runtimed-init"} {
		if err := os.Link(filepath.Join(built, p), filepath.Join(w.dir, "libexec", p)); err != nil {
			t.Fatal(err)
		}
	}
	w.inside(unix.CLONE_NEWNET, func() error {
		var err error
		w.registry, err = registrytest.Start(registrytest.Options{})
		return err
	})
	t.Cleanup(w.registry.Close)
	w.registry.MustPush(t, "app:1", system(t))
	w.image = w.registry.Ref("app:1")
	config := fmt.Sprintf("version = 1\nroot = %q\nrun = %q\nnetns_dir = %q\nlibexec = %q\n[cgroup]\nroot = %q\n[network]\nbridge = \"kill0\"\n[trust]\nmode = \"off\"\n",
		w.dir+"/root", w.dir+"/run", w.dir+"/netns", w.dir+"/libexec", w.groups)
	if err := os.WriteFile(w.dir+"/config.toml", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) hold() {
	w.Helper()
	w.holder = exec.Command("/proc/self/exe", holderVerb)
	w.holder.Stderr = os.Stderr
	w.holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID}
	if _, err := w.holder.StdinPipe(); err != nil { // it ends with this process
		w.Fatal(err)
	}
	out, err := w.holder.StdoutPipe()
	if err == nil {
		err = w.holder.Start()
	}
	if err != nil {
		w.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		w.Fatalf("holder says %q, %v", line, err)
	}
}

// end takes the whole world down. The kernel kills whatever is in its PID namespace.
func (w *world) end() {
	if w.conn != nil {
		w.conn.Close()
	}
	if w.holder != nil && w.holder.Process != nil {
		w.holder.Process.Kill()
		w.holder.Wait()
	}
	if w.daemon != nil {
		<-w.ended
	}
	for _, dir := range w.cgroups() { // deepest first
		for range 100 {
			if err := unix.Rmdir(dir); err == nil || err == unix.ENOENT {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	if w.Failed() {
		if b, err := os.ReadFile(w.dir + "/daemon.log"); err == nil {
			w.Logf("the daemon's log ends:\n%s", tail(b, 20000))
		}
	}
	os.RemoveAll(w.dir)
}

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

// cgroups are all groups of this world in all hierarchies, deepest first.
func (w *world) cgroups() []string {
	out, _ := exec.Command("find", "/sys/fs/cgroup", "-depth", "-type", "d", "-path", "*"+w.groups+"*").Output()
	return strings.Fields(string(out))
}

// inside runs fn in namespaces of the world, on a thread that ends with it. Processes that fn starts stay there.
func (w *world) inside(kinds int, fn func() error) {
	w.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocks: the thread is spoilt
		done <- func() error {
			if err := unix.Unshare(unix.CLONE_FS); err != nil {
				return err
			}
			for _, ns := range []struct {
				kind int
				name string
			}{{unix.CLONE_NEWPID, "pid"}, {unix.CLONE_NEWNET, "net"}, {unix.CLONE_NEWNS, "mnt"}} {
				if kinds&ns.kind == 0 {
					continue
				}
				fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/%s", w.holder.Process.Pid, ns.name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
				if err != nil {
					return err
				}
				if err := unix.Setns(fd, ns.kind); err != nil {
					return fmt.Errorf("enter %s: %w", ns.name, err)
				}
				unix.Close(fd)
			}
			return fn()
		}()
	}()
	if err := <-done; err != nil {
		w.Fatal(err)
	}
}

// start starts a daemon with a plan and waits until it serves, or has ended: with a plan it may die at once.
func (w *world) start(plan string) time.Duration {
	w.Helper()
	log, err := os.OpenFile(w.dir+"/daemon.log", os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		w.Fatal(err)
	}
	defer log.Close()
	fmt.Fprintf(log, "--- start with the plan %q\n", plan)
	w.daemon = exec.Command(filepath.Join(built, w.program), w.dir+"/config.toml")
	w.daemon.Env = append(os.Environ(), "RUNTIMED_TEST_PLAN="+plan, "GORACE=halt_on_error=0 log_path="+w.dir+"/race")
	w.daemon.Stderr, w.daemon.Dir = log, "/"
	began := time.Now()
	w.inside(unix.CLONE_NEWPID|unix.CLONE_NEWNET|unix.CLONE_NEWNS, w.daemon.Start)
	ended, cmd := make(chan struct{}), w.daemon
	w.ended = ended
	go func() { cmd.Wait(); close(ended) }()
	if w.conn == nil { // one for all daemons: clients go on through a restart
		if w.conn, err = grpc.NewClient("unix://"+w.dir+"/run/runtimed.sock",
			grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithConnectParams(fastRetries)); err != nil {
			w.Fatal(err)
		}
		w.cri, w.images = v1.NewRuntimeServiceClient(w.conn), v1.NewImageServiceClient(w.conn)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	go func() {
		select {
		case <-ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	for {
		_, err := w.cri.Version(ctx, &v1.VersionRequest{}, grpc.WaitForReady(true))
		if err == nil || plan != "" && w.dead() {
			break
		}
		if ctx.Err() != nil {
			w.Fatalf("the daemon does not serve: %v", err)
		}
	}
	return time.Since(began)
}

// kill kills the daemon.
func (w *world) kill() {
	w.daemon.Process.Kill()
	<-w.ended
}

// stop ends the daemon by SIGTERM.
func (w *world) stop() {
	w.Helper()
	w.daemon.Process.Signal(syscall.SIGTERM)
	select {
	case <-w.ended:
	case <-time.After(20 * time.Second):
		w.daemon.Process.Signal(syscall.SIGQUIT) // its log says where it stands
		if !w.dies(3 * time.Second) {
			w.kill()
		}
		w.Fatal("the daemon does not end on SIGTERM")
	}
}

func (w *world) dead() bool {
	select {
	case <-w.ended:
		return true
	default:
		return false
	}
}

// dies waits for a daemon that is to die.
func (w *world) dies(within time.Duration) bool {
	select {
	case <-w.ended:
		return true
	case <-time.After(within):
		return false
	}
}
