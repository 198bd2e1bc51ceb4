package main

import (
	"context"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/cmd/runtimed/client"
)

func versionCommand(g *globals) *cobra.Command {
	var output string
	cmd := &cobra.Command{Use: "version", Short: "Print this program's version, and the daemon's where one runs", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			versions := map[string]string{"client": fullVersion(), "go": runtime.Version()}
			g.with(cmd, func(ctx context.Context, c *client.Client) error {
				r, err := c.Runtime.Version(ctx, &v1.VersionRequest{})
				if err == nil {
					versions["daemon"], versions["cri"] = r.RuntimeVersion, r.RuntimeApiVersion
				}
				return err
			})
			if output == "json" {
				return printJSON(cmd.OutOrStdout(), versions)
			}
			for _, k := range []string{"client", "go", "daemon", "cri"} {
				if v := versions[k]; v != "" {
					fmt.Fprintf(cmd.OutOrStdout(), "%-7s %s\n", k, printable(v))
				}
			}
			if versions["daemon"] == "" {
				fmt.Fprintln(cmd.OutOrStdout(), "daemon  none answers")
			}
			return nil
		}}
	outputFlag(cmd, &output)
	return cmd
}
