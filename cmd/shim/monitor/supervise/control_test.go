package supervise_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/shim"
)

func TestMalformedPackets(t *testing.T) {
	b := start(t, plan{Script: "read x", Stdin: true})
	c, err := net.Dial("unixpacket", b.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, p := range []string{"x", "ping", "2 ping", "1", "1 ", "1 nothing", "1 ping 2", "1 resize", "1 resize 1 1 1",
		"1 resize 80 24", "\x00\xff", strings.Repeat("1", 1024), strings.Repeat("1", 1025), strings.Repeat("1 ping", 10000)} {
		if got := talk(t, c, p); !strings.HasPrefix(got, "1 error ") {
			t.Errorf("%.20q: %q", p, got)
		}
		if got := talk(t, c, "1 ping"); got != "1 ok" {
			t.Errorf("after %.20q: %q", p, got)
		}
	}
}

func TestOtherUserIsRefused(t *testing.T) {
	dir, err := os.MkdirTemp("", "runtimed-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	os.Chmod(dir, 0o755)
	p := plan{Script: "read x", Stdin: true}
	p.Args.Socket = dir + "/s"
	b := start(t, p)
	b.socket = p.Args.Socket
	os.Chmod(b.socket, 0o666)
	for _, packet := range []string{"1 ping", "1 reopen"} {
		cmd := exec.Command("/proc/self/exe", b.socket, packet)
		cmd.Env = []string{roleKey + "=client"}
		out, err := cmd.CombinedOutput()
		if err == nil || strings.Contains(string(out), "1 ok") || !strings.HasPrefix(string(out), "client ") {
			t.Errorf("%q: %q, %v", packet, out, err)
		}
	}
	if got := b.ask("1 ping"); got != "1 ok" {
		t.Errorf("root: %q", got)
	}
}

func TestClientMeetsMonitor(t *testing.T) {
	ctx := context.Background()
	b := start(t, plan{Script: "echo hello; read x", Stdin: true})
	c := shim.Client{Socket: b.socket}
	if err := c.Ping(ctx); err != nil {
		t.Error(err)
	}
	if err := c.Resize(ctx, 1, 2); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("resize: %v", err)
	}
	eventually(t, "hello is read", func() bool {
		n, err := c.Stats(ctx)
		return err == nil && n.Read == 6 && n.Lost == 0
	})
	if err := c.ReopenLog(ctx); err != nil {
		t.Error(err)
	}
	if err := os.Rename(b.dir, b.dir+".moved"); err != nil {
		t.Fatal(err)
	}
	c.Socket = b.dir + ".moved/c.sock"
	err := c.ReopenLog(ctx)
	os.Rename(b.dir+".moved", b.dir)
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "0.log: no such file") {
		t.Errorf("reopen without a directory: %v", err)
	}
}

// More callers than the monitor takes at a time wait for their turn; none is sent away.
func TestManyCallers(t *testing.T) {
	b := start(t, plan{Script: "read x", Stdin: true})
	c := shim.Client{Socket: b.socket}
	for range 20 {
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				if err := c.ReopenLog(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
}

// Connections that ask nothing hold their places, no more than the monitor has, and whoever comes behind them is served
// when one leaves.
func TestPlacesAreHeld(t *testing.T) {
	const places = 16 // connMax of the monitor
	b := start(t, plan{Script: "read x", Stdin: true})
	c := shim.Client{Socket: b.socket}
	descriptors := func() int {
		all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", b.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	before := descriptors()
	var idle []net.Conn
	for {
		conn, err := net.Dial("unixpacket", b.socket)
		if errors.Is(err, syscall.EAGAIN) { // the places and the kernel's queue behind them are full
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		idle = append(idle, conn)
		eventually(t, "it has taken what it can", func() bool { return descriptors()-before == min(len(idle), places) })
	}
	if len(idle) <= places {
		t.Errorf("%d connections fill a monitor with %d places and a queue", len(idle), places)
	}
	if err := c.Ping(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("behind %d idle connections: %v", len(idle), err)
	}
	for _, conn := range idle {
		conn.Close()
	}
	if err := c.Ping(t.Context()); err != nil {
		t.Errorf("when they have left: %v", err)
	}
	eventually(t, "all places are free", func() bool { return descriptors() == before })
}

// A stopped monitor answers nothing, for ever; the calls end. It goes on where it was when it is let go on.
func TestStoppedMonitor(t *testing.T) {
	b := start(t, plan{Script: "read x", Stdin: true})
	c := shim.Client{Socket: b.socket}
	b.cmd.Process.Signal(syscall.SIGSTOP)
	eventually(t, "it is stopped", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.cmd.Process.Pid))
		return err == nil && strings.Contains(string(stat), ") T ")
	})
	begin := time.Now()
	err := c.Ping(context.Background())
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("ping: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	for range 100 { // its queue runs full
		if err := c.ReopenLog(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("reopen: %v", err)
		}
	}
	t.Logf("%v", time.Since(begin))
	b.cmd.Process.Signal(syscall.SIGCONT)
	eventually(t, "it answers again", func() bool { return c.Ping(context.Background()) == nil })
}

// SIGKILL is the daemon's to notice: the lock goes with the process, and no exit is stated.
func TestKilledMonitor(t *testing.T) {
	b := start(t, plan{Script: "sleep 600"})
	s, err := b.started()
	if err != nil {
		t.Fatal(err)
	}
	b.cmd.Process.Kill()
	<-b.ended
	if err := (shim.Client{Socket: b.socket}).Ping(context.Background()); !errdefs.IsUnavailable(err) {
		t.Errorf("ping: %v", err)
	}
	if _, err := os.Stat(b.dir + "/exit.json"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("exit.json: %v", err)
	}
	if procState(s.Init.PID) == 0 {
		t.Error("the container died with its monitor: who kills it is the daemon")
	}
	syscall.Kill(s.Init.PID, syscall.SIGKILL)
}
