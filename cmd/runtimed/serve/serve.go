package serve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/runtimed/runtimed/cmd/runtimed/config"
	"github.com/runtimed/runtimed/pkg/cri"
	"github.com/runtimed/runtimed/pkg/cri/control"
	"github.com/runtimed/runtimed/pkg/cri/control/controlpb"
	"github.com/runtimed/runtimed/pkg/cri/stream"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

// Options of Run; all have defaults.
type Options struct {
	// Version of this program.
	Version string
	// Log defaults to what the configuration says, on standard error.
	Log *slog.Logger
	// Observe sees every step of every flow. It may fail or kill there; tests do.
	Observe step.Observer
	// Ready is called when the socket is being served.
	Ready func()
	// Grace is how long calls in flight may take when the daemon is to leave. Default 10 s.
	Grace time.Duration

	// ended is told of each container's end; hook adds to the door's options.
	ended func(spec.Exit)
	hook  func(*cri.Options)
	// leaving is closed when the daemon is told to stop.
	leaving <-chan struct{}
}

// rooms are what is served, and how it is left.
type rooms struct {
	runtime interface {
		cri.Runtime
		control.Runtime
	}
	images cri.Images
	// streams are what sessions are with. Nil serves none.
	streams     stream.Runtime
	runtimeSpec func(sandboxID, containerID string) ([]byte, error)
	systemd     bool // is the cgroup driver
	// close stops goroutines and gives descriptors back. It touches nothing that runs.
	close func()
}

// builder makes the rooms, recovered and ready to serve.
type builder func(ctx context.Context, c config.Config, o Options) (rooms, error)

// run is Run with rooms of the caller's making.
func run(ctx context.Context, c config.Config, o Options, build builder) error {
	if o.Log == nil {
		o.Log = NewLog(c.Log, os.Stderr)
	}
	o.Grace = cmp.Or(o.Grace, 10*time.Second)
	layout := c.Layout()
	if err := makeDirs(layout); err != nil {
		return err
	}
	for _, dir := range []string{layout.Root, layout.Run} {
		held, err := lock(dir)
		if err != nil {
			return err
		}
		defer held.Close()
	}
	if c.Trust.Mode == "off" {
		o.Log.Warn("trust.mode is off: every image is taken unverified")
	}
	t, err := newTelemetry(ctx, c, &o)
	if err != nil {
		return err
	}
	defer t.close()
	o.leaving = ctx.Done()
	r, err := build(ctx, c, o)
	if err != nil && ctx.Err() != nil {
		o.Log.Info("told to stop before the start was done", "error", err)
		return nil
	}
	if err != nil {
		return err
	}
	defer r.close()
	end, err := t.serve(ctx, c, o, r)
	if err != nil {
		return err
	}
	defer end()
	o.hook = t.hook
	return listenAndServe(ctx, c, o, r)
}

func listenAndServe(ctx context.Context, c config.Config, o Options, r rooms) error {
	options := cri.Options{
		Runtime: r.runtime, Images: r.images, Log: o.Log, Version: o.Version, RuntimeSpec: r.runtimeSpec,
		Info: statusInfo(c), SystemdCgroups: r.systemd,
	}
	service := control.New(ctx, r.runtime, info(c, o.Version))
	failed := make(chan error, 2)
	if r.streams != nil {
		streaming, err := listenStreaming(c.Streaming, o.Log, r.streams)
		if err != nil {
			return err
		}
		go func() { failed <- fmt.Errorf("streaming address: %w", streaming.Serve()) }()
		defer func() {
			grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.Grace)
			defer cancel()
			streaming.Close(grace)
		}()
		options.Streaming = streaming
		service.WithStreams(sessions{r.runtime, r.streams})
	}
	o.hook(&options)
	server := cri.New(options)
	service.Register(server)
	socket := c.Layout().Socket()
	l, err := cri.Listen(socket, slices.Concat(c.Socket.AllowedUIDs, []uint32{uint32(os.Geteuid())}), o.Log)
	if err != nil {
		return err
	}
	go func() { failed <- fmt.Errorf("socket %s: %w", socket, server.Serve(l)) }()
	o.Log.Info("serving", "socket", socket, "version", o.Version, "pid", os.Getpid(), "root", c.Root)
	notify(o.Log, daemon.SdNotifyReady)
	watching, unwatch := context.WithCancel(ctx)
	defer unwatch()
	go watch(watching, o.Log, socket)
	if o.Ready != nil {
		o.Ready()
	}
	select {
	case err = <-failed:
	case <-ctx.Done():
		o.Log.Info("stopping; containers run on")
		notify(o.Log, daemon.SdNotifyStopping)
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.Grace)
	defer cancel()
	server.Stop(grace)
	if err == nil && errors.Is(grace.Err(), context.DeadlineExceeded) {
		o.Log.Warn("calls in flight were broken off; their callers will try again", "after", o.Grace)
	}
	return err
}

// sessions are what the control service streams with.
type sessions struct {
	cri.Runtime
	streams stream.Runtime
}

func (s sessions) Exec(ctx context.Context, r spec.StreamRequest) (int32, error) {
	return s.streams.Exec(ctx, r)
}

func (s sessions) Attach(ctx context.Context, id string, st spec.Streams) error {
	return s.streams.Attach(ctx, id, st)
}

func (s sessions) PortForward(ctx context.Context, id string, port uint16, conn io.ReadWriteCloser) error {
	return s.streams.PortForward(ctx, id, port, conn)
}

// notify tells systemd, where it is the one that started this (sd_notify(3)).
func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("systemd could not be told", "state", state, "error", err)
	}
}

// info is what the control service tells about this daemon.
func info(c config.Config, version string) *controlpb.InfoResponse {
	libexec, err := c.LibexecDir()
	if err != nil {
		libexec = ""
	}
	return &controlpb.InfoResponse{
		Version: version, Pid: int32(os.Getpid()), Root: c.Root, Run: c.Run, NetnsDir: c.NetnsDir,
		Socket: c.Layout().Socket(), Libexec: libexec, Config: c.File, TrustMode: c.Trust.Mode,
		CgroupRoot: c.Cgroup.Root, Bridge: c.Network.Bridge, NftTable: c.Network.NftTable,
	}
}
