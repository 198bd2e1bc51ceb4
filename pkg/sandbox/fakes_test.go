package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/runtimed/runtimed/pkg/sandbox/process"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/state"
	"github.com/runtimed/runtimed/pkg/security"
	"github.com/runtimed/runtimed/pkg/security/idmap"
)

// world stands for the kernel and for all shims: what is in it after a teardown was left behind.
type world struct {
	mu      sync.Mutex
	objects map[string]bool // "kind id"
	shims   map[string]*fakeShim
	boot    string
	limits  map[string]string // by cgroup
	fail    map[string]error  // by "kind verb", such as "netns make"
	swept   []string          // containers whose former sessions were ended
	dialled string            // the network namespace that was last connected to
}

// fakeShim is a real process, so that pidfds and start ticks are real; what it "states" is written by the test.
type fakeShim struct {
	cmd    *exec.Cmd
	dir    string
	cgroup string
	ending bool
	died   bool
}

func newWorld() *world {
	return &world{objects: map[string]bool{}, shims: map[string]*fakeShim{}, fail: map[string]error{}, limits: map[string]string{}}
}

func (w *world) make(kind, id string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.fail[kind+" make"]; err != nil {
		return err
	}
	w.objects[kind+" "+id] = true
	return nil
}

func (w *world) unmake(kind, id string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.fail[kind+" unmake"]; err != nil {
		return err
	}
	delete(w.objects, kind+" "+id)
	return nil
}

func (w *world) setFail(what string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fail[what] = err
}

func (w *world) left() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []string
	for o := range w.objects {
		all = append(all, o)
	}
	for id, s := range w.shims {
		if !s.died {
			all = append(all, "shim "+id)
		}
	}
	return all
}

type fakeNamespaces struct{ *world }

func (f fakeNamespaces) Create(_ context.Context, r NamespaceRequest) error {
	return f.make("ns", r.SandboxID)
}
func (f fakeNamespaces) Remove(_ context.Context, id string) error { return f.unmake("ns", id) }
func (f fakeNamespaces) StartInit(_ context.Context, r InitRequest) (spec.Process, error) {
	if err := f.make("init", r.SandboxID); err != nil {
		return spec.Process{}, err
	}
	return process.Identify(os.Getpid(), f.boot)
}
func (f fakeNamespaces) CanIDMap(string, string) error { return nil }

type fakeNetwork struct{ *world }

func (f fakeNetwork) Add(_ context.Context, r NetworkRequest) (spec.NetworkResult, error) {
	return spec.NetworkResult{Addresses: []spec.Address{{IP: "10.0.0.2", Prefix: 24}}}, f.make("net", r.SandboxID)
}
func (f fakeNetwork) Remove(_ context.Context, id string, _ *spec.NetworkResult) error {
	return f.unmake("net", id)
}
func (f fakeNetwork) Recover(context.Context, map[string]spec.NetworkResult) error { return nil }
func (f fakeNetwork) UsePodCIDRs(context.Context, []netip.Prefix) error            { return nil }
func (f fakeNetwork) Condition() spec.Condition                                    { return spec.Condition{OK: true} }

type fakeFiles struct{ *world }

func (f fakeFiles) Create(_ context.Context, r FilesRequest) error {
	return f.make("files", r.SandboxID)
}
func (f fakeFiles) Remove(_ context.Context, id string) error { return f.unmake("files", id) }

type fakeCgroups struct{ *world }

func (f fakeCgroups) Create(_ context.Context, path string, _ *spec.Resources) error {
	return f.make("cgroup", path)
}
func (f fakeCgroups) Remove(ctx context.Context, path string) error {
	if err := f.Kill(ctx, path); err != nil {
		return err
	}
	f.mu.Lock()
	for o := range f.objects {
		if strings.HasPrefix(o, "cgroup "+path+"/") {
			delete(f.objects, o)
		}
	}
	f.mu.Unlock()
	return f.unmake("cgroup", path)
}

// Kill of a container's group makes its shim state an exit, as the kernel's kill of the init would.
func (f fakeCgroups) Kill(_ context.Context, path string) error {
	f.mu.Lock()
	err := f.fail["cgroup kill"]
	delete(f.objects, "init "+filepath.Base(path))
	f.mu.Unlock()
	if err != nil {
		return err
	}
	for cid, s := range f.shimsNow() {
		if s.cgroup == path || strings.HasPrefix(s.cgroup, path+"/") {
			f.exit(cid, 137)
		}
	}
	return nil
}

func (w *world) shimsNow() map[string]*fakeShim {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.shims)
}
func (f fakeCgroups) Find(_ context.Context, name string) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var found []string
	for o := range f.objects {
		if filepath.Base(o) == name {
			found = append(found, o[len("cgroup "):])
		}
	}
	return found, nil
}

// exit makes a container's shim state an exit and leave.
func (w *world) exit(cid string, code int) {
	w.mu.Lock()
	s := w.shims[cid]
	if s == nil || s.died || s.ending {
		w.mu.Unlock()
		return
	}
	s.ending = true
	w.mu.Unlock()
	// Like a shim, it holds its lock until the exit is stated.
	state.WriteOnce(s.dir, spec.ExitFile, spec.Exit{Version: 1, FinishedAt: 1, Code: code})
	w.mu.Lock()
	s.died = true
	w.mu.Unlock()
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

// lose kills a shim before it can say anything.
func (w *world) lose(cid string) {
	w.mu.Lock()
	s := w.shims[cid]
	s.died = true
	w.mu.Unlock()
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

type fakeShims struct{ *world }

func (f fakeShims) Start(ctx context.Context, l spec.Launch, onCreated func(spec.Process) error) error {
	f.mu.Lock()
	err := f.fail["shim make"]
	f.mu.Unlock()
	if err != nil {
		return err
	}
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		return err
	}
	self, err := process.Identify(cmd.Process.Pid, f.boot)
	if err == nil {
		err = onCreated(self)
	}
	dir := l.Layout.Container(l.SandboxID, l.ContainerID)
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = state.WriteOnce(dir, spec.StartedFile, spec.Started{Version: 1, StartedAt: 1, Init: self})
	}
	if err != nil {
		cmd.Process.Kill()
		cmd.Wait()
		return err
	}
	f.mu.Lock()
	f.shims[l.ContainerID] = &fakeShim{cmd: cmd, dir: dir, cgroup: l.CgroupPath}
	f.objects["cgroup "+l.CgroupPath] = true
	f.mu.Unlock()
	return nil
}

func (f fakeShims) Alive(_ spec.Layout, _, cid string) (int, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.shims[cid]
	if s == nil || s.died {
		return 0, false
	}
	return s.cmd.Process.Pid, true
}
func (f fakeShims) Ready(context.Context, spec.Layout, string) error     { return nil }
func (f fakeShims) ReopenLog(context.Context, spec.Layout, string) error { return nil }
func (f fakeShims) Exec(_ context.Context, _ spec.Launch, _ ExecProfile, r spec.ExecRequest) (spec.ExecResult, error) {
	return spec.ExecResult{Stdout: []byte(r.Command[0])}, nil
}
func (f fakeShims) Stream(_ context.Context, l spec.Launch, r spec.StreamRequest) (int32, error) {
	_, err := io.WriteString(r.Streams.Stdout, l.ContainerID+" "+r.Command[0])
	return 3, err
}

func (f fakeShims) Attach(ctx context.Context, l spec.Launch, s spec.Streams, _ <-chan struct{}) error {
	fmt.Fprint(s.Stdout, l.ContainerID)
	<-ctx.Done()
	return context.Cause(ctx)
}

func (f fakeShims) EndSessions(_ context.Context, l spec.Launch) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.swept = append(f.swept, l.ContainerID)
	return f.fail["sessions end"]
}

// fakeDialer finds everybody's port on this machine's own loopback, and remembers which namespace was asked for.
type fakeDialer struct{ *world }

func (f fakeDialer) Dial(ctx context.Context, netns string, port uint16) (net.Conn, error) {
	f.mu.Lock()
	f.dialled = netns
	f.mu.Unlock()
	return new(net.Dialer).DialContext(ctx, "tcp4", fmt.Sprintf("127.0.0.1:%d", port))
}

type fakeImages struct{ *world }

func (f fakeImages) Use(_ context.Context, ref string) (spec.ImageUse, func(), error) {
	if ref != "busybox" {
		return spec.ImageUse{}, nil, spec.NotFoundf("there is no image %q", ref)
	}
	return spec.ImageUse{ID: "sha256:1", Layers: []string{"sha256:aa"}, Config: spec.ImageConfig{Cmd: []string{"sh"}}}, func() {}, nil
}
func (f fakeImages) Collect()                                     {}
func (f fakeImages) Open([]string, string) (io.ReadCloser, error) { return nil, fs.ErrNotExist }
func (f fakeImages) Find(_ []string, path string) (bool, error) {
	if path != "/" && path != "/data" {
		return false, fs.ErrNotExist
	}
	return true, nil
}

// newRuntime is a Runtime over the world. Two over the same directory are a daemon and its successor.
func newRuntime(t *testing.T, w *world, dir string, change func(*Options)) *Runtime {
	t.Helper()
	o := Options{
		Layout:     spec.Layout{Root: dir + "/root", Run: dir + "/run", Netns: dir + "/netns"},
		CgroupRoot: "/test",
		Namespaces: fakeNamespaces{w}, Network: fakeNetwork{w}, Cgroups: fakeCgroups{w}, Limits: fakeLimits{w}, Files: fakeFiles{w},
		Shims: fakeShims{w}, Sessions: fakeShims{w}, Dialer: fakeDialer{w}, Images: fakeImages{w},
		Node: security.Node{HeldCapabilities: []string{"CAP_CHOWN"}}, Pool: idmap.Default,
		Handlers: []spec.Handler{{}},
	}
	if change != nil {
		change(&o)
	}
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	w.boot = r.bootID
	if err := r.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.Close()
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, s := range w.shims {
			if !s.died {
				s.cmd.Process.Kill()
				s.cmd.Wait()
			}
		}
	})
	// The netns pin is what tells a successor that the pod still stands.
	os.MkdirAll(o.Layout.Netns, 0o700)
	return r
}

func podRequest(name string) spec.SandboxRequest {
	return spec.SandboxRequest{
		Metadata: spec.Metadata{Name: name, Namespace: "default", UID: "u"},
		Security: spec.SandboxSecurity{Namespaces: spec.Namespaces{
			Network: spec.NamespacePod, PID: spec.NamespaceContainer, IPC: spec.NamespacePod,
		}},
	}
}

func containerRequest(name string) spec.ContainerRequest {
	return spec.ContainerRequest{Name: name, Image: "busybox", Security: spec.ContainerSecurity{Namespaces: spec.Namespaces{
		Network: spec.NamespacePod, PID: spec.NamespaceContainer, IPC: spec.NamespacePod,
	}}}
}

// mustRun makes a pod with one running container.
func mustRun(t *testing.T, r *Runtime, name string) (sid, cid string) {
	t.Helper()
	sid, err := r.RunSandbox(t.Context(), podRequest(name))
	if err == nil {
		err = os.WriteFile(r.Layout.NetnsPin(sid), nil, 0o600)
	}
	if err == nil {
		cid, err = r.CreateContainer(t.Context(), sid, containerRequest("c"))
	}
	if err == nil {
		err = r.StartContainer(t.Context(), cid)
	}
	if err != nil {
		t.Fatal(err)
	}
	return sid, cid
}

var errPlanted = errors.New("planted")

func stateOf(t *testing.T, r *Runtime, cid string) string {
	t.Helper()
	v, err := r.Container(t.Context(), cid)
	if err != nil {
		t.Fatal(err)
	}
	s := string(v.State)
	if e := v.Facts.Ended(); e != nil {
		s += fmt.Sprintf(" %d %s", e.Code, e.Why())
	}
	return s
}

// records are the entries below the sandboxes directory and the trash.
func records(t *testing.T, r *Runtime) []string {
	t.Helper()
	var all []string
	for _, d := range []string{r.Layout.Sandboxes(), filepath.Join(r.Layout.Root, "trash")} {
		entries, err := os.ReadDir(d)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			all = append(all, filepath.Join(d, e.Name()))
		}
	}
	return all
}
