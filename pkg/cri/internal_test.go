package cri

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func TestCodeOfAnEndedCall(t *testing.T) {
	late, cancel := context.WithDeadline(context.Background(), time.Unix(1, 0))
	defer cancel()
	left, leave := context.WithCancel(context.Background())
	leave()
	for name, tc := range map[string]struct {
		ctx  context.Context
		err  error
		want codes.Code
	}{
		"late, wrapped in a kind":      {late, spec.Errorf(errdefs.ErrUnavailable, "x: %w", context.DeadlineExceeded), codes.DeadlineExceeded},
		"left, wrapped in a kind":      {left, spec.Errorf(errdefs.ErrUnavailable, "x: %w", context.Canceled), codes.Canceled},
		"late, but for another reason": {late, spec.NotFoundf("x"), codes.NotFound},
		"a deadline of its own":        {context.Background(), spec.Errorf(errdefs.ErrUnavailable, "x: %w", context.DeadlineExceeded), codes.Unavailable},
		"a plain deadline":             {context.Background(), context.DeadlineExceeded, codes.DeadlineExceeded},
	} {
		if got := code(tc.ctx, tc.err); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

func TestLongErrorsAreCut(t *testing.T) {
	err := toStatus(context.Background(), errors.New(strings.Repeat("x", 1<<20)), nil)
	if n := len(status.Convert(err).Message()); n > maxMessage+8 {
		t.Errorf("%d bytes", n)
	}
	own := status.Error(codes.DataLoss, "x")
	if toStatus(context.Background(), own, nil) != own {
		t.Error("a status is changed")
	}
	if toStatus(context.Background(), nil, nil) != nil {
		t.Error("nil is an error")
	}
}

func TestRedactorSparesShortWords(t *testing.T) {
	if got := (redactor{"abcd"}).in("abcd and abc"); got != "(hidden) and abc" {
		t.Error(got)
	}
	if secretsOf("no message") != nil {
		t.Error("secrets of nothing")
	}
}

func TestLevels(t *testing.T) {
	for _, tc := range []struct {
		rpc  string
		code codes.Code
		want slog.Level
	}{
		{"ListContainers", codes.OK, slog.LevelDebug},
		{"ContainerStatus", codes.NotFound, slog.LevelDebug},
		{"Wait", codes.Canceled, slog.LevelDebug},
		{"ListContainers", codes.Unknown, slog.LevelWarn},
		{"StartContainer", codes.OK, slog.LevelInfo},
		{"StartContainer", codes.NotFound, slog.LevelWarn},
		{"Exec", codes.Unimplemented, slog.LevelInfo},
		{"Version", codes.Internal, slog.LevelError},
	} {
		if got := level(tc.rpc, tc.code); got != tc.want {
			t.Errorf("%s %v: %v", tc.rpc, tc.code, got)
		}
	}
}

func TestMissing(t *testing.T) {
	if missing(nil) || missing(errors.New("x")) || !missing(fmt.Errorf("a: %w", spec.NotFoundf("x"))) ||
		missing(spec.Errorf(errdefs.ErrUnavailable, "x: %w", spec.NotFoundf("y"))) {
		t.Error("missing is wrong")
	}
}
