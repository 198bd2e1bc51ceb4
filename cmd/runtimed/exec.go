package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/cmd/runtimed/client"
)

func execCommand(g *globals) *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "exec [--timeout D] CONTAINER COMMAND…",
		Short: "Run a command in a running container; its output is printed when it has ended",
		Long: `Run a command in a running container. Its output, at most 16 MiB, is printed when it has ended, and its exit code is this
program's: 126 where it cannot be executed, 127 where it is not there, 125 where runtimed itself failed.`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if timeout < 0 || timeout > 0 && timeout < time.Second {
				return fmt.Errorf("--timeout %v: at least 1s is possible", timeout)
			}
			return g.with(cmd, func(ctx context.Context, c *client.Client) error {
				found, err := c.Container(ctx, args[0])
				if err != nil {
					return err
				}
				r, err := c.Runtime.ExecSync(ctx, &v1.ExecSyncRequest{
					ContainerId: found.Id, Cmd: args[1:], Timeout: int64(timeout / time.Second),
				})
				if err != nil {
					return c.Explain(fmt.Sprintf("exec in container %q", args[0]), err)
				}
				cmd.OutOrStdout().Write(r.Stdout)
				cmd.ErrOrStderr().Write(r.Stderr)
				if r.ExitCode != 0 {
					return &client.Exit{Code: int(r.ExitCode)}
				}
				return nil
			})
		},
	}
	cmd.Flags().SetInterspersed(false) // what follows the command is the command's
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "kill it after this `time`, in whole seconds (0: never)")
	return cmd
}
