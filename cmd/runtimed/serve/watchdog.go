package serve

import (
	"context"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/cmd/runtimed/client"
)

// watch tells systemd that this daemon works, as often as its unit wants to hear it (WatchdogSec), and only after the
// daemon has answered itself: a process that merely runs is not enough. It returns when ctx ends, and at once where
// nobody waits for it (sd_watchdog_enabled(3)).
func watch(ctx context.Context, log *slog.Logger, socket string) {
	within, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("systemd's watchdog is set in a way that cannot be read", "error", err)
	}
	if within <= 0 || err != nil {
		return
	}
	log.Info("systemd's watchdog is fed by asking this daemon itself", "within", within)
	feed(ctx, within, func(ctx context.Context) error { return ask(ctx, socket) }, func(err error) {
		if err != nil {
			log.Error("this daemon does not answer itself: systemd will restart it", "within", within, "error", err)
			return
		}
		notify(log, daemon.SdNotifyWatchdog)
	})
}

// feed asks three times in each period, so that one late answer does no harm; each question has a period's half.
func feed(ctx context.Context, within time.Duration, ask func(context.Context) error, told func(error)) {
	tick := time.NewTicker(within / 3)
	defer tick.Stop()
	for {
		asking, cancel := context.WithTimeout(ctx, within/2)
		err := ask(asking)
		cancel()
		if ctx.Err() != nil {
			return
		}
		told(err)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// ask goes the way of every client: the socket, the interceptor, the Runtime and its locks.
func ask(ctx context.Context, socket string) error {
	c, err := client.Dial(socket)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Runtime.Status(ctx, &v1.StatusRequest{}); err != nil {
		return err
	}
	if _, err := c.Runtime.ListPodSandbox(ctx, &v1.ListPodSandboxRequest{}); err != nil {
		return err
	}
	_, err = c.Runtime.ListContainers(ctx, &v1.ListContainersRequest{})
	return err
}
