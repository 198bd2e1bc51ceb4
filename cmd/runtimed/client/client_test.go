package client

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/pkg/cri"
	"github.com/runtimed/runtimed/pkg/cri/control"
	"github.com/runtimed/runtimed/pkg/cri/control/controlpb"
	"github.com/runtimed/runtimed/pkg/cri/fake"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func TestPick(t *testing.T) {
	all := []object{{"aa11", "web"}, {"aa22", "db"}, {"bb33", "db"}, {"cc44", "aa"}, {"web5", "x"}}
	for _, c := range []struct {
		want  string
		index int
		says  string
	}{
		{"aa11", 0, ""}, {"web", 0, ""}, {"bb", 2, ""}, {"aa", 3, ""}, {"aa2", 1, ""}, {"x", 4, ""},
		{"db", 0, "means 2 things (aa22, bb33)"}, {"zz", 0, `there is no thing with the name "zz"`}, {"", 0, "there is no thing"},
	} {
		i, err := pick("thing", c.want, all)
		if i != c.index || (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: %d, %v", c.want, i, err)
		}
	}
	if _, err := pick("thing", "a", []object{{"aa", "1"}, {"ab", "2"}}); err == nil || !strings.Contains(err.Error(), "give one's id") {
		t.Errorf("an ambiguous beginning: %v", err)
	}
	for name, absent := range map[string]bool{"zz": true, "db": false, "aa11": false} {
		if _, err := pick("thing", name, all); Absent(err) != absent {
			t.Errorf("Absent of %q: %v", name, err)
		}
	}
	for code, absent := range map[codes.Code]bool{codes.NotFound: true, codes.Canceled: false, codes.Unavailable: false} {
		if err := (&Client{}).Explain("x", status.Error(code, "y")); Absent(err) != absent {
			t.Errorf("Absent of %v", err)
		}
	}
}

func TestShort(t *testing.T) {
	for id, want := range map[string]string{"": "", "ab": "ab", "sha256:0123456789abcdef": "0123456789abc", "0123456789abcdef": "0123456789abc"} {
		if got := Short(id); got != want {
			t.Errorf("Short(%q) = %q", id, got)
		}
	}
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
	}{
		{nil, 0}, {errors.New("x"), 125}, {&Exit{Code: 7}, 7}, {fmt.Errorf("run: %w", &Exit{Code: 127, Err: errors.New("x")}), 127},
	} {
		if got := ExitCode(c.err); got != c.code {
			t.Errorf("%v: %d", c.err, got)
		}
	}
	if !(&Exit{Code: 3}).Silent() || (&Exit{Code: 3, Err: errors.New("x")}).Silent() {
		t.Error("Silent is wrong")
	}
	for text, want := range map[string]int{
		`exec: "nope": executable file not found in $PATH`: 127,
		`exec /bin/nope: no such file or directory`:        127,
		`exec: "/etc": is a directory`:                     126,
		`exec /etc/passwd: permission denied`:              126,
		`exec /x: exec format error`:                       126,
		`mount /data: permission denied`:                   125,
		`chdir to /nope: no such file or directory`:        125,
		`the shim died`:                                    125,
	} {
		err := status.Error(codes.Unknown, "container abc could not be started: "+text)
		if got := StartCode(err); got != want {
			t.Errorf("%s: %d, want %d", text, got, want)
		}
	}
	if got := StartCode(status.Error(codes.Unavailable, "exec: no such file or directory")); got != 125 {
		t.Errorf("an error that is not about the program: %d", got)
	}
}

func TestExplain(t *testing.T) {
	c := &Client{Socket: "/run/x.sock"}
	for _, e := range []struct {
		err  error
		says []string
	}{
		{status.Error(codes.NotFound, `there is no image "x"`), []string{`asked: there is no image "x"`}},
		{status.Error(codes.Unavailable, "dial unix /run/x.sock: connect: no such file or directory"), []string{"no daemon answers at /run/x.sock", "runtimed serve"}},
		{status.Error(codes.Unavailable, "connect: connection refused"), []string{"no daemon answers"}},
		{status.Error(codes.Unavailable, "connect: permission denied"), []string{"run this as root"}},
		{status.Error(codes.Unavailable, "error reading from server: EOF"), []string{"broke the connection off", "allowed_uids"}},
		{status.Error(codes.Unavailable, "registry x does not answer"), []string{"asked: registry x does not answer"}},
		{status.Error(codes.Unimplemented, "unknown service runtimed.control.v1.Control"), []string{"is not runtimed"}},
		{status.Error(codes.Unimplemented, "runtimed does not serve Attach: x"), []string{"does not serve Attach"}},
		{status.Error(codes.Canceled, "context canceled"), []string{"asked: interrupted"}},
		{status.Error(codes.DeadlineExceeded, "x"), []string{"no answer in time"}},
		{errors.New("plain"), []string{"asked: plain"}},
	} {
		got := c.Explain("asked", e.err)
		for _, s := range e.says {
			if !strings.Contains(got.Error(), s) || strings.Contains(got.Error(), "rpc error") {
				t.Errorf("%v: %v lacks %q", e.err, got, s)
			}
		}
		if !errors.Is(got, e.err) {
			t.Errorf("%v is lost", e.err)
		}
	}
	if c.Explain("asked", nil) != nil {
		t.Error("no error is one")
	}
}

// serve is a door with fakes on a socket; leave makes it leave.
func serve(t *testing.T) (c *Client, r *fake.Runtime, leave func()) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "rt-client-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r = &fake.Runtime{}
	server := cri.New(cri.Options{Runtime: r, Images: &fake.Images{}})
	ctx, cancel := context.WithCancel(context.Background())
	control.New(ctx, r, &controlpb.InfoResponse{}).Register(server)
	l, err := cri.Listen(filepath.Join(dir, "s"), []uint32{uint32(os.Geteuid())}, nil)
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(l)
	leave = func() { cancel(); server.Stop(t.Context()) }
	t.Cleanup(func() { cancel(); server.Stop(context.Background()) })
	if c, err = Dial(filepath.Join(dir, "s")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, r, leave
}

func TestFindsAndWaits(t *testing.T) {
	c, r, _ := serve(t)
	sid, _ := r.RunSandbox(t.Context(), spec.SandboxRequest{Metadata: spec.Metadata{Name: "p"}})
	cid, _ := r.CreateContainer(t.Context(), sid, spec.ContainerRequest{Name: "c"})
	r.StartContainer(t.Context(), cid)
	for _, name := range []string{"c", cid, cid[:9]} {
		if o, err := c.Container(t.Context(), name); err != nil || o.Id != cid {
			t.Errorf("container %q: %v, %v", name, o, err)
		}
	}
	if o, err := c.Pod(t.Context(), "p"); err != nil || o.Id != sid {
		t.Errorf("pod: %v, %v", o, err)
	}
	if _, err := c.Pod(t.Context(), "c"); err == nil {
		t.Error("a container's name is no pod's")
	}
	wait := c.Wait(t.Context(), cid)
	if _, err := c.Control.Signal(t.Context(), &controlpb.SignalRequest{ContainerId: cid, Signal: 9}); err != nil {
		t.Fatal(err)
	}
	if end, err := wait(); err != nil || end.ExitCode != 137 {
		t.Errorf("%v, %v", end, err)
	}
	if _, err := c.Wait(t.Context(), "absent")(); status.Code(err) != codes.NotFound {
		t.Errorf("wait for nobody: %v", err)
	}
}

// TestWaitIsAskedAtOnce: the daemon has the question though nobody waits for the answer yet.
func TestWaitIsAskedAtOnce(t *testing.T) {
	c, r, _ := serve(t)
	for range 200 {
		sid, _ := r.RunSandbox(t.Context(), spec.SandboxRequest{Metadata: spec.Metadata{Name: "p"}})
		cid, _ := r.CreateContainer(t.Context(), sid, spec.ContainerRequest{Name: "c"})
		r.StartContainer(t.Context(), cid)
		asked := make(chan struct{})
		r.Hook = func(_ context.Context, m string) error {
			if m == "RemoveOnExit" {
				<-asked
			}
			if m == "Wait" {
				close(asked)
			}
			return nil
		}
		wait := c.Wait(t.Context(), cid)
		if _, err := c.Control.RemoveOnExit(t.Context(), &controlpb.RemoveOnExitRequest{PodSandboxId: sid}); err != nil {
			t.Fatal(err)
		}
		r.Hook = nil
		r.End(cid, 4)
		if end, err := wait(); err != nil || end.ExitCode != 4 {
			t.Fatalf("%v, %v", end, err)
		}
		r.RemoveSandbox(t.Context(), sid)
	}
}

func TestDaemonLeaves(t *testing.T) {
	c, r, leave := serve(t)
	sid, _ := r.RunSandbox(t.Context(), spec.SandboxRequest{})
	cid, _ := r.CreateContainer(t.Context(), sid, spec.ContainerRequest{Name: "c"})
	waiting := make(chan struct{})
	r.Hook = func(_ context.Context, m string) error {
		if m == "Wait" {
			close(waiting)
		}
		return nil
	}
	wait := c.Wait(t.Context(), cid)
	<-waiting
	go leave()
	if _, err := wait(); !Gone(err) {
		t.Errorf("%v", err)
	}
	if Gone(nil) || Gone(errors.New("x")) {
		t.Error("Gone is wrong")
	}
}

func TestNoDaemon(t *testing.T) {
	c, err := Dial(filepath.Join(t.TempDir(), "none"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Runtime.Version(t.Context(), &v1.VersionRequest{})
	if got := c.Explain("version", err); !strings.Contains(got.Error(), "no daemon answers at") {
		t.Errorf("%v", got)
	}
}
