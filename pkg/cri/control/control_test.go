package control_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
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

// open serves a fake runtime and returns a client, one running container's id and its sandbox's, and the daemon's leave.
func open(t *testing.T) (*fake.Runtime, controlpb.ControlClient, string, string, context.CancelFunc) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "ctl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &fake.Runtime{}
	server := cri.New(cri.Options{Runtime: r, Images: &fake.Images{}})
	ctx, leave := context.WithCancel(context.Background())
	control.New(ctx, r, &controlpb.InfoResponse{Version: "1", Root: "/r", Run: "/u", TrustMode: "off"}).Register(server)
	socket := filepath.Join(dir, "s")
	l, err := cri.Listen(socket, []uint32{uint32(os.Geteuid())}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(l)
	t.Cleanup(func() { leave(); server.Stop(context.Background()) })
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	sid, err := r.RunSandbox(t.Context(), spec.SandboxRequest{})
	if err != nil {
		t.Fatal(err)
	}
	cid, err := r.CreateContainer(t.Context(), sid, spec.ContainerRequest{Name: "c"})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.StartContainer(t.Context(), cid); err != nil {
		t.Fatal(err)
	}
	return r, controlpb.NewControlClient(conn), sid, cid, leave
}

func TestInfo(t *testing.T) {
	_, c, _, _, _ := open(t)
	got, err := c.Info(t.Context(), &controlpb.InfoRequest{})
	if err != nil || got.Version != "1" || got.Root != "/r" || got.Run != "/u" || got.TrustMode != "off" {
		t.Errorf("Info: %v, %v", got, err)
	}
}

func TestSignalAndWait(t *testing.T) {
	r, c, _, id, _ := open(t)
	ended := make(chan *controlpb.WaitResponse, 1)
	go func() {
		got, err := c.Wait(context.Background(), &controlpb.WaitRequest{ContainerId: id[:12]})
		if err != nil {
			t.Errorf("Wait: %v", err)
		}
		ended <- got
	}()
	for _, n := range []int32{1, 64, 15} {
		if _, err := c.Signal(t.Context(), &controlpb.SignalRequest{ContainerId: id[:12], Signal: n}); err != nil {
			t.Errorf("Signal %d: %v", n, err)
		}
	}
	if want := []string{id + " 1", id + " 64", id + " 15"}; !slices.Equal(r.Signals, want) {
		t.Errorf("signals %v, want %v", r.Signals, want)
	}
	if got := <-ended; got.GetExitCode() != 143 || got.GetReason() != "Error" || got.GetFinishedAt() < got.GetStartedAt() || got.GetContainerId() != id {
		t.Errorf("Wait: %v", got)
	}
	if got, err := c.Wait(t.Context(), &controlpb.WaitRequest{ContainerId: id}); err != nil || got.ExitCode != 143 {
		t.Errorf("a second Wait: %v, %v", got, err)
	}
	if _, err := c.Signal(t.Context(), &controlpb.SignalRequest{ContainerId: id, Signal: 9}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("Signal to an exited one: %v", err)
	}
}

func TestRemoveOnExit(t *testing.T) {
	r, c, sid, _, _ := open(t)
	if _, err := c.RemoveOnExit(t.Context(), &controlpb.RemoveOnExitRequest{PodSandboxId: sid[:12]}); err != nil {
		t.Fatal(err)
	}
	if v, err := r.Sandbox(t.Context(), sid); err != nil || !v.Status.RemoveOnExit {
		t.Errorf("sandbox %+v, %v", v.Status, err)
	}
}

// TestWaitEnds with the daemon: Unavailable, so that a client may come back; one that leaves itself is Canceled.
func TestWaitEnds(t *testing.T) {
	r, c, _, id, leave := open(t)
	waiting := make(chan struct{}, 2)
	r.Hook = func(_ context.Context, method string) error {
		if method == "Wait" {
			waiting <- struct{}{}
		}
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	wait := func(ctx context.Context) {
		_, err := c.Wait(ctx, &controlpb.WaitRequest{ContainerId: id})
		result <- err
	}
	go wait(ctx)
	<-waiting
	cancel()
	if err := <-result; status.Code(err) != codes.Canceled {
		t.Errorf("client left: %v", err)
	}
	go wait(context.Background())
	<-waiting
	leave()
	select {
	case err := <-result:
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "the container runs on") {
			t.Errorf("daemon left: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Wait goes on though the daemon leaves")
	}
}

func TestBadInput(t *testing.T) {
	_, c, _, id, _ := open(t)
	long := strings.Repeat("f", 300)
	for name, tc := range map[string]struct {
		call func(context.Context) error
		want codes.Code
	}{
		"signal 0": {func(ctx context.Context) error {
			_, err := c.Signal(ctx, &controlpb.SignalRequest{ContainerId: id})
			return err
		}, codes.InvalidArgument},
		"signal 65": {func(ctx context.Context) error {
			_, err := c.Signal(ctx, &controlpb.SignalRequest{ContainerId: id, Signal: 65})
			return err
		}, codes.InvalidArgument},
		"signal -9": {func(ctx context.Context) error {
			_, err := c.Signal(ctx, &controlpb.SignalRequest{ContainerId: id, Signal: -9})
			return err
		}, codes.InvalidArgument},
		"signal to nobody": {func(ctx context.Context) error {
			_, err := c.Signal(ctx, &controlpb.SignalRequest{Signal: 9})
			return err
		}, codes.InvalidArgument},
		"signal to the unknown": {func(ctx context.Context) error {
			_, err := c.Signal(ctx, &controlpb.SignalRequest{ContainerId: "ff", Signal: 9})
			return err
		}, codes.NotFound},
		"signal to a long id": {func(ctx context.Context) error {
			_, err := c.Signal(ctx, &controlpb.SignalRequest{ContainerId: long, Signal: 9})
			return err
		}, codes.InvalidArgument},
		"wait for nobody": {func(ctx context.Context) error { _, err := c.Wait(ctx, &controlpb.WaitRequest{}); return err }, codes.InvalidArgument},
		"wait for the unknown": {func(ctx context.Context) error {
			_, err := c.Wait(ctx, &controlpb.WaitRequest{ContainerId: "ff"})
			return err
		}, codes.NotFound},
		"remove nothing on exit": {func(ctx context.Context) error {
			_, err := c.RemoveOnExit(ctx, &controlpb.RemoveOnExitRequest{})
			return err
		}, codes.InvalidArgument},
		"remove unknown on exit": {func(ctx context.Context) error {
			_, err := c.RemoveOnExit(ctx, &controlpb.RemoveOnExitRequest{PodSandboxId: "ff"})
			return err
		}, codes.NotFound},
	} {
		if err := tc.call(t.Context()); status.Code(err) != tc.want {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
}
