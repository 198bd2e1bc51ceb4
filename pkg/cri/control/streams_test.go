package control_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/runtimed/runtimed/pkg/cri"
	"github.com/runtimed/runtimed/pkg/cri/control"
	"github.com/runtimed/runtimed/pkg/cri/control/controlpb"
	"github.com/runtimed/runtimed/pkg/cri/fake"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

type stage struct {
	*fake.Streams
	client              controlpb.ControlClient
	sandbox, cid, other string // a running container with a terminal, and a created one without
	leave               context.CancelFunc
}

func sessions(t *testing.T) *stage {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "ctl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &fake.Runtime{}
	s := &stage{Streams: &fake.Streams{Runtime: r}}
	server := cri.New(cri.Options{Runtime: r, Images: &fake.Images{}})
	ctx, leave := context.WithCancel(context.Background())
	s.leave = leave
	control.New(ctx, r, &controlpb.InfoResponse{}).WithStreams(s.Streams).Register(server)
	l, err := cri.Listen(filepath.Join(dir, "s"), []uint32{uint32(os.Geteuid())}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(l)
	t.Cleanup(func() { leave(); server.Stop(context.Background()) })
	conn, err := grpc.NewClient("unix://"+filepath.Join(dir, "s"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	s.client = controlpb.NewControlClient(conn)
	s.sandbox, err = r.RunSandbox(t.Context(), spec.SandboxRequest{})
	if err == nil {
		s.cid, err = r.CreateContainer(t.Context(), s.sandbox, spec.ContainerRequest{Name: "c", TTY: true})
	}
	if err == nil {
		err = r.StartContainer(t.Context(), s.cid)
	}
	if err == nil {
		s.other, err = r.CreateContainer(t.Context(), s.sandbox, spec.ContainerRequest{Name: "d"})
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

type call = grpc.BidiStreamingClient[controlpb.StreamInput, controlpb.StreamOutput]

func begin(t *testing.T, s *stage, first *controlpb.StreamInput) call {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	var c call
	var err error
	switch first.GetMessage().(type) {
	case *controlpb.StreamInput_BeginAttach:
		c, err = s.client.Attach(ctx)
	case *controlpb.StreamInput_BeginPortForward:
		c, err = s.client.PortForward(ctx)
	default:
		c, err = s.client.Exec(ctx)
	}
	if err == nil {
		err = c.Send(first)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func execOf(id string, tty bool) *controlpb.StreamInput {
	return &controlpb.StreamInput{Message: &controlpb.StreamInput_BeginExec{BeginExec: &controlpb.BeginExec{
		ContainerId: id, Command: []string{"x"}, Stdin: true, Tty: tty, Size: &controlpb.TerminalSize{Width: 80, Height: 24},
	}}}
}

func attachTo(id string) *controlpb.StreamInput {
	return &controlpb.StreamInput{Message: &controlpb.StreamInput_BeginAttach{BeginAttach: &controlpb.BeginAttach{ContainerId: id, Stdin: true}}}
}

func forwardTo(id string, port uint32) *controlpb.StreamInput {
	return &controlpb.StreamInput{Message: &controlpb.StreamInput_BeginPortForward{
		BeginPortForward: &controlpb.BeginPortForward{PodSandboxId: id, Port: port},
	}}
}

func stdin(b []byte) *controlpb.StreamInput {
	return &controlpb.StreamInput{Message: &controlpb.StreamInput_Stdin{Stdin: b}}
}

// result is what a session said.
type result struct {
	out, err       bytes.Buffer
	started, tty   bool
	closed, ended  bool
	code           int32
	failure        error
	afterEndFrames int
}

func drain(c call) *result {
	r := &result{}
	for {
		m, err := c.Recv()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				r.failure = err
			}
			return r
		}
		if r.ended {
			r.afterEndFrames++
		}
		switch m := m.GetMessage().(type) {
		case *controlpb.StreamOutput_Started:
			r.started, r.tty = true, m.Started.GetTty()
		case *controlpb.StreamOutput_Stdout:
			r.out.Write(m.Stdout)
		case *controlpb.StreamOutput_Stderr:
			r.err.Write(m.Stderr)
		case *controlpb.StreamOutput_StdoutClosed:
			r.closed = true
		case *controlpb.StreamOutput_End:
			r.ended, r.code = true, m.End.GetExitCode()
		}
	}
}

func TestExecSession(t *testing.T) {
	s := sessions(t)
	s.OnExec = func(_ context.Context, r spec.StreamRequest) (int32, error) {
		io.WriteString(r.Streams.Stderr, r.ContainerID+" "+strings.Join(r.Command, " "))
		_, err := io.Copy(r.Streams.Stdout, r.Streams.Stdin)
		return 7, err
	}
	c := begin(t, s, execOf(s.cid[:12], false))
	sent := bytes.Repeat([]byte("0123456789abcdef"), 64<<10) // 1 MiB: more than one message, in and out
	go func() {
		for b := sent; len(b) > 0; b = b[64<<10:] {
			c.Send(stdin(b[:64<<10]))
		}
		c.Send(&controlpb.StreamInput{Message: &controlpb.StreamInput_StdinClosed{StdinClosed: true}})
	}()
	got := drain(c)
	if got.failure != nil || !got.started || got.tty || !got.ended || got.code != 7 || got.afterEndFrames > 0 {
		t.Errorf("%v", got)
	}
	if !bytes.Equal(got.out.Bytes(), sent) || got.err.String() != s.cid+" x" {
		t.Errorf("%d bytes and %q", got.out.Len(), got.err.String())
	}
}

func TestTerminalSession(t *testing.T) {
	s := sessions(t)
	sizes := make(chan spec.TerminalSize, 8)
	s.OnExec = func(ctx context.Context, r spec.StreamRequest) (int32, error) {
		if !r.Streams.TTY || r.Streams.Stderr != nil {
			return 0, errors.New("no terminal")
		}
		for {
			select {
			case size := <-r.Streams.Resize:
				if sizes <- size; size.Width == 3 {
					return 0, nil
				}
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}
	}
	c := begin(t, s, execOf(s.cid, true))
	if got := <-sizes; got != (spec.TerminalSize{Width: 80, Height: 24}) {
		t.Errorf("the first size is %v", got)
	}
	for _, w := range []uint32{0, 1 << 16, 3} { // the impossible is dropped
		c.Send(&controlpb.StreamInput{Message: &controlpb.StreamInput_Resize{Resize: &controlpb.TerminalSize{Width: w, Height: 9}}})
	}
	if got := drain(c); got.failure != nil || !got.tty || !got.ended {
		t.Errorf("%v", got)
	}
	if got := <-sizes; got != (spec.TerminalSize{Width: 3, Height: 9}) {
		t.Errorf("then %v", got)
	}
}

func TestAttachSessionHasTheContainersTerminal(t *testing.T) {
	s := sessions(t)
	c := begin(t, s, attachTo(s.cid))
	c.Send(stdin([]byte("hello")))
	c.CloseSend() // ends the input too
	if got := drain(c); got.failure != nil || !got.tty || got.out.String() != "hello" || !got.ended {
		t.Errorf("%v", got)
	}
}

func TestPortForwardSession(t *testing.T) {
	s := sessions(t)
	c := begin(t, s, forwardTo(s.sandbox, 80))
	c.Send(stdin([]byte("ping")))
	c.Send(&controlpb.StreamInput{Message: &controlpb.StreamInput_StdinClosed{StdinClosed: true}})
	if got := drain(c); got.failure != nil || got.out.String() != "ping" || !got.closed || !got.ended {
		t.Errorf("%v", got)
	}
}

func TestSessionsThatAreRefused(t *testing.T) {
	s := sessions(t)
	for name, c := range map[string]struct {
		call  string
		first *controlpb.StreamInput
		code  codes.Code
	}{
		"exec without a beginning":     {"exec", stdin(nil), codes.InvalidArgument},
		"exec with another":            {"exec", attachTo(s.cid), codes.InvalidArgument},
		"exec without a container":     {"exec", execOf("", false), codes.InvalidArgument},
		"exec in an unknown container": {"exec", execOf("ffff", false), codes.NotFound},
		"exec in a created container":  {"exec", execOf(s.other, false), codes.FailedPrecondition},
		"attach with another":          {"attach", execOf(s.cid, false), codes.InvalidArgument},
		"attach without a container":   {"attach", attachTo(""), codes.InvalidArgument},
		"attach to nobody":             {"attach", attachTo("ffff"), codes.NotFound},
		"attach to a created":          {"attach", attachTo(s.other), codes.FailedPrecondition},
		"forward with another":         {"forward", attachTo(s.cid), codes.InvalidArgument},
		"forward to nobody":            {"forward", forwardTo("ffff", 80), codes.NotFound},
		"forward without a sandbox":    {"forward", forwardTo("", 80), codes.InvalidArgument},
		"forward port 0":               {"forward", forwardTo(s.sandbox, 0), codes.InvalidArgument},
		"forward port 65536":           {"forward", forwardTo(s.sandbox, 65536), codes.InvalidArgument},
	} {
		var g call
		var err error
		switch c.call {
		case "exec":
			g, err = s.client.Exec(t.Context())
		case "attach":
			g, err = s.client.Attach(t.Context())
		case "forward":
			g, err = s.client.PortForward(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		g.Send(c.first)
		if got := drain(g); status.Code(got.failure) != c.code {
			t.Errorf("%s: %v, not %v", name, got.failure, c.code)
		}
		g, _ = s.client.Exec(t.Context())
		g.CloseSend()
		if got := drain(g); status.Code(got.failure) != codes.InvalidArgument {
			t.Errorf("nothing at all: %v", got.failure)
		}
	}
}

func TestSessionsThatNobodyServes(t *testing.T) {
	_, c, _, cid, _ := open(t)
	g, err := c.Exec(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	g.Send(execOf(cid, false))
	if got := drain(g); status.Code(got.failure) != codes.Unimplemented {
		t.Errorf("%v", got.failure)
	}
}

func TestLeavingDaemonEndsSessions(t *testing.T) {
	s := sessions(t)
	begun := make(chan bool, 1)
	s.OnExec = func(ctx context.Context, _ spec.StreamRequest) (int32, error) {
		begun <- true
		<-ctx.Done()
		return 0, ctx.Err()
	}
	c := begin(t, s, execOf(s.cid, false))
	<-begun
	s.leave()
	if got := drain(c); status.Code(got.failure) != codes.Unavailable {
		t.Errorf("%v", got.failure)
	}
}

// Clients that are gone, do not read, or send what nobody takes leave nothing behind.
func TestAbortedSessionsLeaveNothing(t *testing.T) {
	s := sessions(t)
	var modes = []func(ctx context.Context, r spec.StreamRequest) (int32, error){
		func(ctx context.Context, _ spec.StreamRequest) (int32, error) { <-ctx.Done(); return 0, ctx.Err() },
		func(ctx context.Context, r spec.StreamRequest) (int32, error) {
			for ctx.Err() == nil {
				r.Streams.Stdout.Write(make([]byte, 64<<10)) // which nobody reads
			}
			return 0, ctx.Err()
		},
		func(_ context.Context, r spec.StreamRequest) (int32, error) {
			_, err := io.Copy(r.Streams.Stdout, r.Streams.Stdin)
			return 0, err
		},
	}
	var mode atomic.Int32
	s.OnExec = func(ctx context.Context, r spec.StreamRequest) (int32, error) { return modes[mode.Load()](ctx, r) }
	if _, err := s.client.Info(t.Context(), &controlpb.InfoRequest{}); err != nil { // which connects
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	for i := range 300 {
		mode.Store(int32(i / 100))
		ctx, cancel := context.WithCancel(t.Context())
		g, err := s.client.Exec(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if i%3 > 0 {
			g.Send(execOf(s.cid, i%2 == 0))
			g.Recv()
		}
		if i%4 > 1 {
			g.Send(stdin(make([]byte, 32<<10)))
		}
		cancel()
	}
	for end := time.Now().Add(patience); runtime.NumGoroutine() > before+2; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
		}
	}
}
