package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/cmd/runtimed/config"
	"github.com/runtimed/runtimed/pkg/cri/control/controlpb"
	"github.com/runtimed/runtimed/pkg/cri/fake"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// serveEnv makes this test binary a daemon with fake rooms in the directory that it names.
const serveEnv = "SERVE_TEST_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(serveEnv); dir != "" {
		err := run(context.Background(), configIn(dir), Options{Log: slog.New(slog.DiscardHandler), Ready: func() { fmt.Println("ready") }},
			(&rig{}).build)
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func configIn(dir string) config.Config {
	c := config.Default()
	c.Root, c.Run, c.NetnsDir = filepath.Join(dir, "root"), filepath.Join(dir, "run"), filepath.Join(dir, "netns")
	return c
}

// rig is a daemon with fake rooms.
type rig struct {
	config  config.Config
	runtime fake.Runtime
	closed  bool
	log     syncBuffer
	cancel  context.CancelFunc
	result  chan error
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func (r *rig) build(context.Context, config.Config, Options) (rooms, error) {
	return rooms{runtime: &r.runtime, images: &fake.Images{}, streams: &fake.Streams{Runtime: &r.runtime}, close: func() { r.closed = true }}, nil
}

func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "srv")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// start runs a daemon and returns when it serves.
func start(t *testing.T, dir string, change func(*config.Config, *Options)) *rig {
	t.Helper()
	r := &rig{config: configIn(dir), result: make(chan error, 1)}
	ready := make(chan struct{})
	o := Options{Version: "9", Ready: func() { close(ready) }}
	if change != nil {
		change(&r.config, &o)
	}
	o.Log = NewLog(r.config.Log, &r.log)
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() { r.result <- run(ctx, r.config, o, r.build) }()
	t.Cleanup(cancel)
	select {
	case <-ready:
	case err := <-r.result:
		t.Fatal(err)
	}
	return r
}

func (r *rig) stop(t *testing.T) {
	t.Helper()
	r.cancel()
	if err := <-r.result; err != nil {
		t.Errorf("run: %v", err)
	}
}

func (r *rig) dial(t *testing.T) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+r.config.Layout().Socket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestServesAndLeaves(t *testing.T) {
	dir := shortDir(t)
	r := start(t, dir, func(c *config.Config, _ *Options) { c.Trust.Mode = "off" })
	for path, want := range map[string]os.FileMode{
		r.config.Root: 0o700, r.config.Run: 0o700, r.config.Layout().Socket(): 0o600,
		r.config.Root + "/lock": 0o600, r.config.Run + "/lock": 0o600,
	} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %v", path, info, err, want)
		}
	}
	conn := r.dial(t)
	version, err := v1.NewRuntimeServiceClient(conn).Version(t.Context(), &v1.VersionRequest{})
	if err != nil || version.RuntimeVersion != "9" {
		t.Errorf("Version: %v, %v", version, err)
	}
	info, err := controlpb.NewControlClient(conn).Info(t.Context(), &controlpb.InfoRequest{})
	if err != nil || info.TrustMode != "off" || info.Pid != int32(os.Getpid()) || info.Root != r.config.Root || info.Socket != r.config.Layout().Socket() {
		t.Errorf("Info: %v, %v", info, err)
	}
	r.stop(t)
	if !r.closed {
		t.Error("the rooms were not closed")
	}
	if _, err := os.Stat(r.config.Layout().Socket()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket stays: %v", err)
	}
	for _, want := range []string{"trust.mode is off: every image is taken unverified", "msg=serving", "containers run on"} {
		if !strings.Contains(r.log.String(), want) {
			t.Errorf("log lacks %q:\n%s", want, r.log.String())
		}
	}
	start(t, dir, nil).stop(t)
}

func TestTrustIsNotSaidToBeOffWhenItIsNot(t *testing.T) {
	r := start(t, shortDir(t), nil)
	r.stop(t)
	if strings.Contains(r.log.String(), "trust.mode") {
		t.Errorf("log is %s", r.log.String())
	}
}

// TestSecondDaemonIsRefused on the same root or run directory, by the first one's pid.
func TestSecondDaemonIsRefused(t *testing.T) {
	dir := shortDir(t)
	first := start(t, dir, nil)
	for name, change := range map[string]func(*config.Config){
		"both the same": func(*config.Config) {},
		"same root":     func(c *config.Config) { c.Run = filepath.Join(dir, "run2") },
		"same run":      func(c *config.Config) { c.Root = filepath.Join(dir, "root2") },
	} {
		c := configIn(dir)
		change(&c)
		err := run(t.Context(), c, Options{Log: slog.New(slog.DiscardHandler)}, (&rig{}).build)
		if !errors.Is(err, errdefs.ErrAlreadyExists) || !strings.Contains(err.Error(), fmt.Sprintf("held by the daemon with pid %d", os.Getpid())) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := v1.NewRuntimeServiceClient(first.dial(t)).Version(t.Context(), &v1.VersionRequest{}); err != nil {
		t.Errorf("the first one does not serve any more: %v", err)
	}
	first.stop(t)
}

// daemonIn starts this binary as a daemon and waits until it serves.
func daemonIn(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), serveEnv+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	line := make([]byte, 6)
	if _, err := io.ReadFull(out, line); err != nil || string(line) != "ready\n" {
		t.Fatalf("daemon says %q, %v", line, err)
	}
	return cmd
}

// TestKilledDaemonLeavesTheWayFree: its locks end with it, and its socket is replaced.
func TestKilledDaemonLeavesTheWayFree(t *testing.T) {
	dir := shortDir(t)
	first := daemonIn(t, dir)
	err := run(t.Context(), configIn(dir), Options{Log: slog.New(slog.DiscardHandler)}, (&rig{}).build)
	if !errors.Is(err, errdefs.ErrAlreadyExists) || !strings.Contains(err.Error(), fmt.Sprint("pid ", first.Process.Pid)) {
		t.Errorf("beside it: %v", err)
	}
	first.Process.Signal(syscall.SIGKILL)
	first.Wait()
	start(t, dir, nil).stop(t)
}

// TestStopFinishesCalls: the call in flight is answered, and a client that waits for a container does not hold it up.
func TestStopFinishesCalls(t *testing.T) {
	r := start(t, shortDir(t), nil)
	sid, _ := r.runtime.RunSandbox(t.Context(), spec.SandboxRequest{})
	cid, err := r.runtime.CreateContainer(t.Context(), sid, spec.ContainerRequest{Name: "c"})
	if err != nil {
		t.Fatal(err)
	}
	inside, release := make(chan string, 2), make(chan struct{})
	r.runtime.Hook = func(_ context.Context, method string) error {
		inside <- method
		if method == "StartContainer" {
			<-release
		}
		return nil
	}
	conn := r.dial(t)
	started, waited := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := v1.NewRuntimeServiceClient(conn).StartContainer(context.Background(), &v1.StartContainerRequest{ContainerId: cid})
		started <- err
	}()
	go func() {
		_, err := controlpb.NewControlClient(conn).Wait(context.Background(), &controlpb.WaitRequest{ContainerId: cid})
		waited <- err
	}()
	<-inside
	<-inside
	r.cancel()
	if err := <-waited; status.Code(err) != codes.Unavailable {
		t.Errorf("Wait: %v", err)
	}
	close(release)
	if err := <-started; err != nil {
		t.Errorf("StartContainer: %v", err)
	}
	if err := <-r.result; err != nil {
		t.Error(err)
	}
	if r.runtime.Signals != nil {
		t.Error("the container was touched")
	}
}

func TestStopBreaksOffWhatTakesTooLong(t *testing.T) {
	r := start(t, shortDir(t), func(_ *config.Config, o *Options) { o.Grace = time.Millisecond })
	inside := make(chan struct{})
	r.runtime.Hook = func(ctx context.Context, _ string) error { close(inside); <-ctx.Done(); return ctx.Err() }
	go v1.NewRuntimeServiceClient(r.dial(t)).StartContainer(context.Background(), &v1.StartContainerRequest{ContainerId: "x"})
	<-inside
	r.stop(t)
	if !strings.Contains(r.log.String(), "broken off") {
		t.Errorf("log is %s", r.log.String())
	}
}

func TestWhatCannotBegin(t *testing.T) {
	for name, prepare := range map[string]func(t *testing.T, c *config.Config) builder{
		"root is a file": func(t *testing.T, c *config.Config) builder {
			if err := os.WriteFile(c.Root, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return nil
		},
		"run is a link": func(t *testing.T, c *config.Config) builder {
			if err := errors.Join(os.Mkdir(c.Run+"2", 0o700), os.Symlink(c.Run+"2", c.Run)); err != nil {
				t.Fatal(err)
			}
			return nil
		},
		"root is somebody's": func(t *testing.T, c *config.Config) builder {
			if err := errors.Join(os.Mkdir(c.Root, 0o700), os.Chown(c.Root, 4711, 0)); err != nil {
				t.Fatal(err)
			}
			return nil
		},
		"lock is a link": func(t *testing.T, c *config.Config) builder {
			if err := errors.Join(os.Mkdir(c.Root, 0o700), os.Symlink("/etc/passwd", c.Root+"/lock")); err != nil {
				t.Fatal(err)
			}
			return nil
		},
		"rooms fail": func(*testing.T, *config.Config) builder {
			return func(context.Context, config.Config, Options) (rooms, error) { return rooms{}, errors.New("no cgroups") }
		},
		"socket is a file": func(t *testing.T, c *config.Config) builder {
			if err := errors.Join(os.Mkdir(c.Run, 0o700), os.WriteFile(c.Layout().Socket(), nil, 0o600)); err != nil {
				t.Fatal(err)
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := shortDir(t)
			c := configIn(dir)
			build := prepare(t, &c)
			if build == nil {
				build = (&rig{}).build
			}
			ready := false
			err := run(t.Context(), c, Options{Log: slog.New(slog.DiscardHandler), Ready: func() { ready = true }}, build)
			if err == nil || ready || strings.Contains(err.Error(), "\n") {
				t.Errorf("error is %v, ready is %v", err, ready)
			}
		})
	}
}

// TestStopWhileStarting is no failure.
func TestStopWhileStarting(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	err := run(ctx, configIn(shortDir(t)), Options{Log: slog.New(slog.DiscardHandler)}, func(ctx context.Context, _ config.Config, _ Options) (rooms, error) {
		cancel()
		return rooms{}, fmt.Errorf("recovery: %w", context.Cause(ctx))
	})
	if err != nil {
		t.Error(err)
	}
}

// TestSystemdIsTold that it is ready, and that it stops.
func TestSystemdIsTold(t *testing.T) {
	dir := shortDir(t)
	path := filepath.Join(dir, "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	r := start(t, dir, nil)
	said := func() string {
		b := make([]byte, 100)
		n, err := socket.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	if got := said(); got != "READY=1" {
		t.Errorf("at the start: %q", got)
	}
	r.stop(t)
	if got := said(); got != "STOPPING=1" {
		t.Errorf("at the end: %q", got)
	}
}

func TestLogFormats(t *testing.T) {
	var b bytes.Buffer
	log := NewLog(config.Log{Level: "warn", Format: "json"}, &b)
	log.Info("no")
	log.Warn("yes", "k", "v\n")
	var line map[string]any
	if err := json.Unmarshal(b.Bytes(), &line); err != nil || line["msg"] != "yes" || line["k"] != "v\n" {
		t.Errorf("%v, %v in %s", line, err, b.String())
	}
	b.Reset()
	NewLog(config.Log{Level: "debug", Format: "text"}, &b).Debug("forged\nlevel=ERROR")
	if strings.Count(b.String(), "\n") != 1 || !strings.Contains(b.String(), "level=DEBUG") {
		t.Errorf("text: %s", b.String())
	}
}
