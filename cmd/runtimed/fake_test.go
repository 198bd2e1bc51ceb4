package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/runtimed/runtimed/pkg/cri"
	"github.com/runtimed/runtimed/pkg/cri/control"
	"github.com/runtimed/runtimed/pkg/cri/control/controlpb"
	"github.com/runtimed/runtimed/pkg/cri/fake"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// fakeRuntime is the fake runtime with logs, and a program that a test may give its containers.
type fakeRuntime struct {
	fake.Runtime
	dir string
	// program is run for each container that is started, with its log; nil leaves it running.
	program func(id string, log *os.File)
	// startError fails StartContainer.
	startError error
	requests   []spec.ContainerRequest
}

func (r *fakeRuntime) CreateContainer(ctx context.Context, sandbox string, req spec.ContainerRequest) (string, error) {
	r.requests = append(r.requests, req)
	return r.Runtime.CreateContainer(ctx, sandbox, req)
}

func (r *fakeRuntime) path(id string) string { return filepath.Join(r.dir, id+".log") }

func (r *fakeRuntime) StartContainer(ctx context.Context, id string) error {
	if r.startError != nil {
		return r.startError
	}
	log, err := os.OpenFile(r.path(id), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if err := r.Runtime.StartContainer(ctx, id); err != nil {
		return err
	}
	if r.program != nil {
		go func() {
			defer log.Close()
			r.program(id, log)
		}()
	}
	return nil
}

func (r *fakeRuntime) Container(ctx context.Context, id string) (spec.ContainerView, error) {
	v, err := r.Runtime.Container(ctx, id)
	v.Spec.LogPath = r.path(v.Spec.ID)
	return v, err
}

// write adds a line to a log, as the monitor does.
func write(log *os.File, stream, text string) {
	fmt.Fprintf(log, "%s %s F %s\n", time.Now().UTC().Format(time.RFC3339Nano), stream, text)
}

// daemon is the door with fakes behind it, on a socket of its own.
type daemon struct {
	t       *testing.T
	socket  string
	runtime *fakeRuntime
	images  *fake.Images
	streams *fake.Streams
	stop    func()
}

func serveFakes(t *testing.T, trust string) *daemon {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "rt-cli-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	d := &daemon{t: t, socket: filepath.Join(dir, "s"), runtime: &fakeRuntime{dir: dir}, images: &fake.Images{}}
	server := cri.New(cri.Options{Runtime: d.runtime, Images: d.images, Version: "9.9.9"})
	ctx, cancel := context.WithCancel(context.Background())
	d.streams = &fake.Streams{Runtime: &d.runtime.Runtime, OnExec: d.execSync}
	control.New(ctx, d.runtime, &controlpb.InfoResponse{Version: "9.9.9", TrustMode: trust}).WithStreams(d.streams).Register(server)
	l, err := cri.Listen(d.socket, []uint32{uint32(os.Geteuid())}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(l)
	var once sync.Once
	d.stop = func() {
		once.Do(func() {
			cancel()
			grace, end := context.WithTimeout(context.Background(), time.Second)
			defer end()
			server.Stop(grace)
		})
	}
	t.Cleanup(d.stop)
	return d
}

// execSync answers a session as ExecSync does.
func (d *daemon) execSync(ctx context.Context, r spec.StreamRequest) (int32, error) {
	got, err := d.runtime.ExecSync(ctx, spec.ExecRequest{ContainerID: r.ContainerID, Command: r.Command})
	r.Streams.Stdout.Write(got.Stdout)
	if r.Streams.Stderr != nil {
		r.Streams.Stderr.Write(got.Stderr)
	}
	return got.ExitCode, err
}

type answer struct {
	out, err string
	code     int
}

// cli runs the command line in this process.
func (d *daemon) cli(args ...string) answer {
	var out, errs bytes.Buffer
	cmd := root()
	cmd.SetArgs(append([]string{"--socket", d.socket}, args...))
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	err := cmd.ExecuteContext(d.t.Context())
	a := answer{out: out.String(), err: errs.String()}
	if err != nil {
		a.code = exitCode(err)
		if quiet, ok := err.(interface{ Silent() bool }); !ok || !quiet.Silent() {
			a.err += err.Error() + "\n"
		}
	}
	return a
}

// wants fails unless the code is as given and the output holds all parts.
func (d *daemon) wants(code int, parts []string, args ...string) answer {
	d.t.Helper()
	a := d.cli(args...)
	if a.code != code {
		d.t.Errorf("%v: code %d, want %d: %+v", args, a.code, code, a)
	}
	for _, p := range parts {
		if !strings.Contains(a.out+a.err, p) {
			d.t.Errorf("%v lacks %q: %+v", args, p, a)
		}
	}
	return a
}

func (d *daemon) pods() []spec.SandboxView {
	all, err := d.runtime.Sandboxes(context.Background(), spec.SandboxFilter{})
	if err != nil {
		d.t.Fatal(err)
	}
	return all
}
