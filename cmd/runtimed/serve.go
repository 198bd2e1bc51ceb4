package main

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/runtimed/runtimed/cmd/runtimed/config"
	"github.com/runtimed/runtimed/cmd/runtimed/serve"
)

func serveCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the daemon",
		Long: `Run the daemon in the foreground, with its log on standard error.

SIGTERM and SIGINT end it: calls in flight are finished, and every container runs on. A second one ends it at once.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(g.config)
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, os.Interrupt)
			defer stop()
			go func() { <-ctx.Done(); stop() }() // the second signal has its usual effect
			return serve.Run(ctx, c, serve.Options{Version: fullVersion()})
		},
	}
	return cmd
}
