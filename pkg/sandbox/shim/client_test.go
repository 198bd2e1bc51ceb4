package shim

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/monitor"
)

// peer is a monitor that answers every packet by a function; nil never accepts.
func peer(t *testing.T, answer func(packet string) []byte) Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unixpacket", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if answer == nil {
		return Client{Socket: path}
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, monitor.PacketMax)
				n, err := c.Read(b)
				if err != nil {
					return
				}
				if reply := answer(string(b[:n])); reply != nil {
					c.Write(reply)
				}
			}()
		}
	}()
	return Client{Socket: path}
}

func TestRequests(t *testing.T) {
	var got string
	c := peer(t, func(p string) []byte { got = p; return []byte("1 ok read 7 lost 3") })
	ctx := context.Background()
	for want, call := range map[string]func() error{
		"1 ping":           func() error { return c.Ping(ctx) },
		"1 reopen":         func() error { return c.ReopenLog(ctx) },
		"1 resize 80 0":    func() error { return c.Resize(ctx, 80, 0) },
		"1 resize 1 65535": func() error { return c.Resize(ctx, 1, 65535) },
		"1 stats": func() error {
			n, err := c.Stats(ctx)
			if n != (monitor.Counters{Read: 7, Lost: 3}) {
				t.Errorf("stats: %+v", n)
			}
			return err
		},
	} {
		if err := call(); err != nil || got != want {
			t.Errorf("sent %q, want %q (%v)", got, want, err)
		}
	}
}

func TestAnswersThatAreErrors(t *testing.T) {
	ctx := context.Background()
	for name, c := range map[string]struct {
		reply string
		is    func(error) bool
		text  string
	}{
		"refused":     {"1 error no terminal", errdefs.IsFailedPrecondition, "no terminal"},
		"other":       {"2 ok", errdefs.IsInternal, "version 1"},
		"no protocol": {"hello", errdefs.IsInternal, "version 1"},
		"empty error": {"1 error", errdefs.IsInternal, "version 1"},
		"hangs up":    {"", errdefs.IsUnavailable, "gone"},
	} {
		cl := peer(t, func(string) []byte {
			if c.reply == "" {
				return nil
			}
			return []byte(c.reply)
		})
		if err := cl.Ping(ctx); !c.is(err) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	cl := peer(t, func(string) []byte { return []byte("1 ok read x") })
	if _, err := cl.Stats(ctx); !errdefs.IsInternal(err) {
		t.Errorf("bad counters: %v", err)
	}
}

func TestGone(t *testing.T) {
	ctx := context.Background()
	if err := (Client{Socket: t.TempDir() + "/none"}).Ping(ctx); !errdefs.IsUnavailable(err) {
		t.Errorf("no socket: %v", err)
	}
	path := t.TempDir() + "/s"
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if err := (Client{Socket: path}).Ping(ctx); !errdefs.IsUnavailable(err) {
		t.Errorf("nobody listens: %v", err)
	}
}

// A stopped monitor accepts nothing: each call ends in time, also when the socket's queue is full.
func TestDeadline(t *testing.T) {
	c := peer(t, nil)
	begin := time.Now()
	if err := c.Ping(context.Background()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("ping: %v", err)
	}
	if d := time.Since(begin); d < Timeout || d > Timeout+time.Second {
		t.Errorf("took %v", d)
	}
	var kept []net.Conn
	defer func() {
		for _, k := range kept {
			k.Close()
		}
	}()
	for {
		k, err := net.Dial("unixpacket", c.Socket)
		if err != nil {
			break
		}
		kept = append(kept, k)
		if len(kept) > 10000 {
			t.Fatal("the queue has no end")
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if err := c.Ping(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("full queue: %v", err)
	}
	ctx, cancel = context.WithCancel(context.Background())
	cancel()
	if err := c.Ping(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
