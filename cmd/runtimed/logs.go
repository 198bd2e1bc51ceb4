package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/cmd/runtimed/client"
	"github.com/runtimed/runtimed/pkg/logs"
)

func logsCommand(g *globals) *cobra.Command {
	var follow, timestamps bool
	var tail, since string
	cmd := &cobra.Command{
		Use:   "logs CONTAINER",
		Short: "Print a container's log",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o := logs.Options{Follow: follow, Timestamps: timestamps, Stdout: cmd.OutOrStdout(), Stderr: cmd.ErrOrStderr()}
			var err error
			if o.Tail, err = parseTail(tail); err != nil {
				return err
			}
			if o.Since, err = parseSince(since, time.Now()); err != nil {
				return err
			}
			return g.with(cmd, func(ctx context.Context, c *client.Client) error { return readLog(ctx, c, args[0], o) })
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the container ends")
	cmd.Flags().StringVar(&tail, "tail", "all", "`number` of last lines to begin with, or all")
	cmd.Flags().StringVar(&since, "since", "", "leave out what is older than a `time` (RFC 3339) or a duration (10m)")
	cmd.Flags().BoolVarP(&timestamps, "timestamps", "t", false, "put each line's time before it")
	return cmd
}

func parseTail(s string) (int, error) {
	if s == "all" {
		return logs.All, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("--tail %q: a number of lines, or all, is possible", s)
	}
	return n, nil
}

func parseSince(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return t, fmt.Errorf("--since %q: a time such as 2026-01-02T15:04:05Z, or a duration such as 10m, is possible", s)
	}
	return t, nil
}

func readLog(ctx context.Context, c *client.Client, name string, o logs.Options) error {
	asked := fmt.Sprintf("log of container %q", name)
	found, err := c.Container(ctx, name)
	if err != nil {
		return err
	}
	s, err := c.Runtime.ContainerStatus(ctx, &v1.ContainerStatusRequest{ContainerId: found.Id})
	if err != nil {
		return c.Explain(asked, err)
	}
	if o.Path = s.GetStatus().GetLogPath(); o.Path == "" {
		return fmt.Errorf("%s: it was made without one", asked)
	}
	if o.Follow {
		ended := make(chan struct{})
		o.Ended = ended
		waiting, cancel := context.WithCancel(ctx)
		defer cancel()
		go func() {
			defer close(ended)
			waitEnd(waiting, c, found.Id, func(string) {})
		}()
	}
	err = logs.Read(ctx, o)
	if errors.Is(err, context.Canceled) {
		return &client.Exit{Code: 128 + 2} // Ctrl-C is how following ends
	}
	if err != nil {
		return fmt.Errorf("%s: %w", asked, err)
	}
	return nil
}
