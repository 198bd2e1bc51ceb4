// Command daemon is `runtimed serve` with a plan: daemon CONFIG, or daemon --config CONFIG serve. The plan is the environment's RUNTIMED_TEST_PLAN.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/runtimed/runtimed/cmd/runtimed/config"
	"github.com/runtimed/runtimed/cmd/runtimed/serve"
	"github.com/runtimed/runtimed/integration/killmain/plan"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "daemon:", err)
		os.Exit(1)
	}
}

func run() error {
	file := os.Args[len(os.Args)-1]
	switch {
	case len(os.Args) == 4 && os.Args[1] == "--config" && os.Args[3] == "serve": // as runtimed is started
		file = os.Args[2]
	case len(os.Args) != 2:
		return fmt.Errorf("usage: daemon CONFIG")
	}
	p, err := plan.Parse(os.Getenv("RUNTIMED_TEST_PLAN"))
	if err != nil {
		return err
	}
	c, err := config.Load(file)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return serve.Run(ctx, c, serve.Options{Version: "test", Observe: p.Observe})
}
