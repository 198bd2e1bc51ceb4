package cri

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"path"
	"time"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// MaxMessage is the size of the largest message in either direction, in bytes: the kubelet's own limit.
const MaxMessage = 16 << 20

// Options of a Server. Runtime and Images are needed.
type Options struct {
	Runtime Runtime
	Images  Images
	Log     *slog.Logger
	// Version of this program.
	Version string
	// SystemdCgroups: systemd is this node's cgroup driver, and the kubelet's must be too.
	SystemdCgroups bool
	// RuntimeSpec reads the config.json of a container, for verbose answers. Nil, or no bytes, shows none.
	RuntimeSpec func(sandboxID, containerID string) ([]byte, error)
	// Info are JSON documents about this daemon, by name, for verbose answers of Status.
	Info map[string]string
	// Streaming serves sessions. Nil refuses Exec, Attach and PortForward.
	Streaming Streaming
	// Answered is told of each call that was answered: the RPC's name, the name of the code, and how long it took. Nil
	// tells nobody.
	Answered func(rpc, code string, took time.Duration)
	// GRPC are options beside the door's own, such as a tracer's.
	GRPC []grpc.ServerOption
}

// Server serves the CRI.
type Server struct {
	grpc *grpc.Server
	// leave ends the streams that never end by themselves.
	leave    context.CancelCauseFunc
	log      *slog.Logger
	answered func(rpc, code string, took time.Duration)
}

// New makes a server with both services of the CRI registered. RPCs that this release does not serve answer
// Unimplemented by name.
func New(o Options) *Server {
	if o.Streaming == nil {
		o.Streaming = noStreaming{}
	}
	leaving, leave := context.WithCancelCause(context.Background())
	s := &Server{log: cmp.Or(o.Log, slog.New(slog.DiscardHandler)), leave: leave, answered: o.Answered}
	s.grpc = grpc.NewServer(append([]grpc.ServerOption{
		grpc.MaxRecvMsgSize(MaxMessage), grpc.MaxSendMsgSize(MaxMessage),
		grpc.ChainUnaryInterceptor(s.unary), grpc.ChainStreamInterceptor(s.stream),
		grpc.WaitForHandlers(true), grpc.ForceServerCodecV2(newCodec()),
		grpc.ConnectionTimeout(10 * time.Second),
		// Local clients may ping as they like: a kubelet whose calls are long does.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	}, o.GRPC...)...)
	s.RegisterService(&v1.RuntimeService_ServiceDesc, &runtimeService{
		runtime: o.Runtime, version: o.Version, runtimeSpec: o.RuntimeSpec, leaving: leaving, info: o.Info,
		streaming:      o.Streaming,
		systemdCgroups: o.SystemdCgroups,
	})
	s.RegisterService(&v1.ImageService_ServiceDesc, &imageService{images: o.Images, runtime: o.Runtime})
	return s
}

// RegisterService adds a service (grpc.ServiceRegistrar) with the door's own way of refusing: a message that cannot be
// parsed is the caller's mistake, where grpc says Internal, and an RPC that is in notServed says so.
func (s *Server) RegisterService(desc *grpc.ServiceDesc, impl any) {
	own := *desc
	own.Methods = make([]grpc.MethodDesc, len(desc.Methods))
	for i, m := range desc.Methods {
		full := "/" + desc.ServiceName + "/" + m.MethodName
		own.Methods[i] = grpc.MethodDesc{MethodName: m.MethodName, Handler: s.guard(full, m.Handler)}
	}
	own.Streams = make([]grpc.StreamDesc, len(desc.Streams))
	for i, st := range desc.Streams {
		own.Streams[i] = st
		if why, ok := notServed[st.StreamName]; ok {
			own.Streams[i].Handler = func(any, grpc.ServerStream) error { return unserved(st.StreamName, why) }
		}
	}
	s.grpc.RegisterService(&own, impl)
}

// guard wraps a method's handler. What fails before the interceptor runs is logged here.
func (s *Server) guard(full string, handle grpc.MethodHandler) grpc.MethodHandler {
	name := path.Base(full)
	why, off := notServed[name]
	return func(srv any, ctx context.Context, decode func(any) error, ic grpc.UnaryServerInterceptor) (any, error) {
		if off {
			err := unserved(name, why)
			s.record(ctx, full, time.Now(), err, nil)
			return nil, err
		}
		strict := func(m any) error {
			p := parsed{message: m}
			err := decode(&p)
			if err == nil && p.err != nil {
				err = status.Errorf(codes.InvalidArgument, "the message of %s cannot be parsed: %v", name, p.err)
			}
			if err != nil {
				s.record(ctx, full, time.Now(), err, nil)
			}
			return err
		}
		return handle(srv, ctx, strict, ic)
	}
}

func unserved(name, why string) error {
	return status.Errorf(codes.Unimplemented, "runtimed does not serve %s: %s", name, why)
}

// Serve accepts connections until Stop, then returns nil.
func (s *Server) Serve(l net.Listener) error { return s.grpc.Serve(l) }

// errLeaving ends what would never end by itself.
var errLeaving = spec.Errorf(errdefs.ErrUnavailable, "the daemon is stopping: ask again")

// Stop closes the listeners, ends the streams of events, lets the calls in flight finish, and breaks them off when ctx ends. When it returns, no
// handler runs any more.
func (s *Server) Stop(ctx context.Context) {
	s.leave(errLeaving)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.grpc.GracefulStop()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.grpc.Stop()
		<-done
	}
}
