package cri

import (
	"context"
	"fmt"
	"log/slog"
	"path"
	"runtime/debug"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// unary is what every call gets: a panic becomes Internal, a kind becomes a code, and one line is logged.
func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	begin, hide := time.Now(), secretsOf(req)
	defer func() {
		if p := recover(); p != nil {
			resp, err = nil, s.panicked(info.FullMethod, p, hide)
		}
		err = toStatus(ctx, err, hide)
		s.record(ctx, info.FullMethod, begin, err, idsOf(req, resp))
	}()
	if resp, err = handler(ctx, req); err == nil {
		err = fits(info.FullMethod, resp)
	}
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// stream is unary for streams.
func (s *Server) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	begin := time.Now()
	defer func() {
		if p := recover(); p != nil {
			err = s.panicked(info.FullMethod, p, nil)
		}
		err = toStatus(ss.Context(), err, nil)
		s.record(ss.Context(), info.FullMethod, begin, err, nil)
	}()
	return handler(srv, strictStream{ss, path.Base(info.FullMethod)})
}

func (s *Server) panicked(method string, p any, hide redactor) error {
	s.log.Error("a bug: a call ended in a panic", "rpc", path.Base(method),
		"panic", hide.in(fmt.Sprint(p)), "stack", hide.in(string(debug.Stack())))
	return status.Errorf(codes.Internal, "%s ended in a bug of runtimed; its log has the details", path.Base(method))
}

// record logs and counts one call.
func (s *Server) record(ctx context.Context, method string, begin time.Time, err error, ids []any) {
	name := path.Base(method)
	if s.answered != nil {
		s.answered(name, status.Code(err).String(), time.Since(begin))
	}
	level, text := level(name, status.Code(err)), "served"
	args := append([]any{"rpc", name}, ids...)
	args = append(args, "code", status.Code(err).String(), "duration", time.Since(begin))
	if err != nil {
		text = "refused"
		args = append(args, "error", status.Convert(err).Message())
	}
	s.log.Log(context.WithoutCancel(ctx), level, text, args...)
}

// level: what changes something is worth a line; questions, of which the kubelet has many, are for who debugs.
func level(rpc string, c codes.Code) slog.Level {
	quiet := rpc == "Version" || rpc == "RuntimeConfig" || rpc == "ImageFsInfo" || rpc == "ExecSync" || rpc == "Info" || rpc == "Wait" ||
		strings.HasPrefix(rpc, "List") || strings.HasPrefix(rpc, "Stream") || strings.HasSuffix(rpc, "Status") ||
		strings.HasSuffix(rpc, "Stats")
	switch {
	case c == codes.Internal || c == codes.DataLoss:
		return slog.LevelError
	case quiet && (c == codes.OK || c == codes.NotFound || c == codes.Canceled):
		return slog.LevelDebug
	case c == codes.OK:
		return slog.LevelInfo
	case c == codes.Unimplemented:
		return slog.LevelInfo
	}
	return slog.LevelWarn
}

// maxLogged bounds what a log line shows of a request. The handler quotes what cannot be printed.
const maxLogged = 128

// idsOf finds the ids of a request and its answer. Nothing else of a message is ever logged.
func idsOf(req, resp any) []any {
	var out []any
	add := func(key, value string) {
		if len(value) > maxLogged {
			value = value[:maxLogged] + "…"
		}
		if value != "" {
			out = append(out, key, value)
		}
	}
	for _, m := range []any{req, resp} {
		if m, ok := m.(interface{ GetPodSandboxId() string }); ok {
			add("sandbox", m.GetPodSandboxId())
		}
		if m, ok := m.(interface{ GetContainerId() string }); ok {
			add("container", m.GetContainerId())
		}
		if m, ok := m.(interface{ GetImageRef() string }); ok {
			add("image", m.GetImageRef())
		}
	}
	if name := nameOf(req); name != "" {
		add("name", name)
	}
	return out
}
