package serve

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestFeed: what does not answer is not reported as working, and a question that hangs ends.
func TestFeed(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	answers := []func(context.Context) error{
		func(context.Context) error { return nil },
		func(context.Context) error { return errors.New("no") },
		func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		func(context.Context) error { return nil },
	}
	var asked int
	var heard []string
	feed(ctx, 30*time.Millisecond, func(ctx context.Context) error { asked++; return answers[asked-1](ctx) }, func(err error) {
		heard = append(heard, map[bool]string{true: "alive", false: "dead"}[err == nil])
		if len(heard) == len(answers) {
			cancel()
		}
	})
	if got := strings.Join(heard, " "); got != "alive dead dead alive" {
		t.Errorf("heard %s", got)
	}
}

// TestWatch speaks with a socket in systemd's place.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	listen, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer listen.Close()
	t.Setenv("NOTIFY_SOCKET", filepath.Join(dir, "notify"))
	t.Setenv("WATCHDOG_USEC", "60000")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	var said strings.Builder
	go func() {
		defer close(done)
		watch(ctx, slog.New(slog.NewTextHandler(&said, nil)), filepath.Join(dir, "nobody"))
	}()
	listen.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	b := make([]byte, 64)
	if n, err := listen.Read(b); err == nil {
		t.Errorf("without an answer systemd was told %q", b[:n])
	}
	cancel()
	<-done
	if !strings.Contains(said.String(), "does not answer itself") {
		t.Errorf("log: %s", said.String())
	}
	t.Setenv("WATCHDOG_USEC", "")
	watch(t.Context(), slog.New(slog.DiscardHandler), "") // nobody waits: returns
}
