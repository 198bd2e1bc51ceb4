package control

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc"

	"github.com/runtimed/runtimed/pkg/cri/control/controlpb"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Streams is what sessions need of the sandboxes. Each returns soon after its context has ended.
type Streams interface {
	Container(ctx context.Context, id string) (spec.ContainerView, error)
	// Exec runs a command in a running container and returns its exit code.
	Exec(ctx context.Context, r spec.StreamRequest) (exitCode int32, err error)
	// Attach connects the streams with a running container's, until its end or theirs.
	Attach(ctx context.Context, containerID string, s spec.Streams) error
	// PortForward connects conn with a port of the sandbox. A Close of conn ends what is sent to the client.
	PortForward(ctx context.Context, sandboxID string, port uint16, conn io.ReadWriteCloser) error
}

// piece is how much of a stream one message carries, in bytes.
const piece = 32 << 10

// WithStreams makes Exec, Attach and PortForward serve sessions with what is given. Without, they are Unimplemented.
func (s *Service) WithStreams(streams Streams) *Service {
	s.streams = streams
	return s
}

// begun is the first message of a session.
func (s *Service) begun(g session) (*controlpb.StreamInput, error) {
	if s.streams == nil {
		return nil, spec.Errorf(errdefs.ErrNotImplemented, "sessions are not served here")
	}
	first, err := g.Recv()
	if errors.Is(err, io.EOF) {
		return nil, spec.Invalidf("the first message is missing")
	}
	return first, err
}

// Exec runs a command.
func (s *Service) Exec(g grpc.BidiStreamingServer[controlpb.StreamInput, controlpb.StreamOutput]) error {
	first, err := s.begun(g)
	if err != nil {
		return err
	}
	b := first.GetBeginExec()
	if b == nil {
		return spec.Invalidf("the first message has no begin_exec")
	}
	if b.GetCopy() && b.GetTty() {
		return spec.Invalidf("a copy has no terminal")
	}
	if err := id("container_id", b.GetContainerId()); err != nil {
		return err
	}
	view, err := s.streams.Container(g.Context(), b.GetContainerId())
	if err != nil {
		return err
	}
	w := s.open(g, wishes{stdin: b.GetStdin(), tty: b.GetTty(), size: b.GetSize()})
	defer w.end()
	if err := w.started(b.GetTty()); err != nil {
		return err
	}
	code, err := s.streams.Exec(w.ctx, spec.StreamRequest{ContainerID: view.Spec.ID, Command: b.GetCommand(), Streams: w.streams, Copy: b.GetCopy()})
	return w.finish(code, err)
}

// Attach connects with a container's program.
func (s *Service) Attach(g grpc.BidiStreamingServer[controlpb.StreamInput, controlpb.StreamOutput]) error {
	first, err := s.begun(g)
	if err != nil {
		return err
	}
	b := first.GetBeginAttach()
	if b == nil {
		return spec.Invalidf("the first message has no begin_attach")
	}
	if err := id("container_id", b.GetContainerId()); err != nil {
		return err
	}
	view, err := s.streams.Container(g.Context(), b.GetContainerId())
	if err != nil {
		return err
	}
	if view.State != spec.ContainerRunning {
		return spec.Preconditionf("container %s is %s, not running", view.Spec.ID, view.State)
	}
	tty := view.Spec.Request.TTY
	w := s.open(g, wishes{stdin: b.GetStdin(), tty: tty, size: b.GetSize()})
	defer w.end()
	if err := w.started(tty); err != nil {
		return err
	}
	return w.finish(0, s.streams.Attach(w.ctx, view.Spec.ID, w.streams))
}

// PortForward is one connection to a port.
func (s *Service) PortForward(g grpc.BidiStreamingServer[controlpb.StreamInput, controlpb.StreamOutput]) error {
	first, err := s.begun(g)
	if err != nil {
		return err
	}
	b := first.GetBeginPortForward()
	if b == nil {
		return spec.Invalidf("the first message has no begin_port_forward")
	}
	if err := id("pod_sandbox_id", b.GetPodSandboxId()); err != nil {
		return err
	}
	if p := b.GetPort(); p < 1 || p > 65535 {
		return spec.Invalidf("port %d is out of range: 1 to 65535", p)
	}
	w := s.open(g, wishes{stdin: true})
	defer w.end()
	if err := w.started(false); err != nil {
		return err
	}
	return w.finish(0, s.streams.PortForward(w.ctx, b.GetPodSandboxId(), uint16(b.GetPort()), tunnel{w.streams.Stdin, w}))
}

// tunnel is the connection of a PortForward.
type tunnel struct {
	io.Reader
	w *wire
}

func (t tunnel) Write(b []byte) (int, error) { return t.w.streams.Stdout.Write(b) }

// Close tells the client that nothing follows; what it sends is still taken.
func (t tunnel) Close() error {
	return t.w.send(&controlpb.StreamOutput{Message: &controlpb.StreamOutput_StdoutClosed{StdoutClosed: true}})
}

// session is a call's stream of messages.
type session interface {
	Context() context.Context
	Recv() (*controlpb.StreamInput, error)
	Send(*controlpb.StreamOutput) error
}

type wishes struct {
	stdin, tty bool
	size       *controlpb.TerminalSize
}

// wire is a session whose messages are streams.
type wire struct {
	ctx     context.Context
	streams spec.Streams
	stop    func()

	session  session
	stopping context.Context
	sending  sync.Mutex
	stdin    *io.PipeWriter
	sizes    chan spec.TerminalSize
	received chan struct{} // closed when nothing more is received
}

func (s *Service) open(g session, o wishes) *wire {
	w := &wire{session: g, stopping: s.stopping, received: make(chan struct{})}
	ctx, cancel := context.WithCancel(g.Context())
	off := context.AfterFunc(s.stopping, cancel)
	w.ctx, w.stop = ctx, func() { off(); cancel() }
	w.streams = spec.Streams{
		Stdout: writer(func(b []byte) *controlpb.StreamOutput {
			return &controlpb.StreamOutput{Message: &controlpb.StreamOutput_Stdout{Stdout: b}}
		}, w),
		TTY: o.tty,
	}
	if o.tty {
		w.sizes = make(chan spec.TerminalSize, 1)
		w.streams.Resize = w.sizes
		w.resize(o.size)
	} else {
		w.streams.Stderr = writer(func(b []byte) *controlpb.StreamOutput {
			return &controlpb.StreamOutput{Message: &controlpb.StreamOutput_Stderr{Stderr: b}}
		}, w)
	}
	if o.stdin {
		r, in := io.Pipe()
		w.streams.Stdin, w.stdin = r, in
	}
	go w.receive()
	return w
}

// receive feeds the streams until the client ends its half, which is the end of its input, or breaks the call off.
func (w *wire) receive() {
	defer close(w.received)
	for {
		m, err := w.session.Recv()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				w.stop()
			}
			w.closeStdin()
			return
		}
		switch in := m.GetMessage().(type) {
		case *controlpb.StreamInput_Stdin:
			if w.stdin != nil {
				w.stdin.Write(in.Stdin) // an error: nobody reads any more
			}
		case *controlpb.StreamInput_StdinClosed:
			w.closeStdin()
		case *controlpb.StreamInput_Resize:
			w.resize(in.Resize)
		}
	}
}

func (w *wire) closeStdin() {
	if w.stdin != nil {
		w.stdin.Close()
	}
}

// resize keeps the latest size.
func (w *wire) resize(s *controlpb.TerminalSize) {
	const max = 1<<16 - 1
	if w.sizes == nil || s.GetWidth() < 1 || s.GetWidth() > max || s.GetHeight() < 1 || s.GetHeight() > max {
		return
	}
	select {
	case <-w.sizes:
	default:
	}
	select {
	case w.sizes <- spec.TerminalSize{Width: uint16(s.GetWidth()), Height: uint16(s.GetHeight())}:
	default:
	}
}

func (w *wire) send(m *controlpb.StreamOutput) error {
	w.sending.Lock()
	defer w.sending.Unlock()
	if err := w.ctx.Err(); err != nil {
		return err
	}
	return w.session.Send(m)
}

func (w *wire) started(tty bool) error {
	return w.send(&controlpb.StreamOutput{Message: &controlpb.StreamOutput_Started{Started: &controlpb.StreamStarted{Tty: tty}}})
}

// finish is the call's result.
func (w *wire) finish(code int32, err error) error {
	switch {
	case w.stopping.Err() != nil && w.session.Context().Err() == nil && (err != nil || w.ctx.Err() != nil):
		return spec.Errorf(errdefs.ErrUnavailable, "%w", errSessionEnds)
	case err != nil:
		return err
	}
	return w.send(&controlpb.StreamOutput{Message: &controlpb.StreamOutput_End{End: &controlpb.StreamEnd{ExitCode: code}}})
}

var errSessionEnds = errors.New("runtimed is stopping, and its sessions end; the container runs on")

// end lets go of what still waits: the input is not read any more.
func (w *wire) end() {
	w.stop()
	if r, ok := w.streams.Stdin.(*io.PipeReader); ok {
		r.Close()
	}
}

type pieces struct {
	wrap func([]byte) *controlpb.StreamOutput
	w    *wire
}

func writer(wrap func([]byte) *controlpb.StreamOutput, w *wire) io.Writer { return pieces{wrap, w} }

func (p pieces) Write(b []byte) (n int, err error) {
	for n < len(b) {
		part := b[n:min(len(b), n+piece)]
		if err := p.w.send(p.wrap(part)); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}
