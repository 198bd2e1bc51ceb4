package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/cmd/runtimed/client"
	"github.com/runtimed/runtimed/cmd/runtimed/request"
)

func updateCommand(g *globals) *cobra.Command {
	var o request.Options
	var shares int64
	var cpus string
	cmd := &cobra.Command{
		Use:   "update [--memory BYTES] [--cpus N] [--cpu-shares N] [--cpuset-cpus LIST] [--pids-limit N] CONTAINER…",
		Short: "Change the limits of containers that run or are to run: all that are named, or none",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			limits, err := request.Limits(o)
			if err != nil {
				return err
			}
			if limits == nil {
				limits = &v1.LinuxContainerResources{}
			}
			limits.CpuShares, limits.CpusetCpus = shares, cpus
			return g.each(cmd, args, func(ctx context.Context, c *client.Client, name string) error { return update(ctx, c, name, limits) })
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&o.Memory, "memory", "m", "", "limit of memory in `bytes`, or with b, k, m, g")
	fl.StringVar(&o.CPUs, "cpus", "", "limit of processors, such as `1.5`")
	fl.Int64Var(&shares, "cpu-shares", 0, "weight against other containers, 2 to 262144; 1024 is the kernel's own")
	fl.StringVar(&cpus, "cpuset-cpus", "", "`list` of processors, such as 0-3,7")
	fl.Int64Var(&o.PidsLimit, "pids-limit", 0, "limit of processes and threads")
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		asked := false
		for _, name := range []string{"memory", "cpus", "cpu-shares", "cpuset-cpus", "pids-limit"} {
			asked = asked || cmd.Flags().Changed(name)
		}
		switch {
		case !asked:
			return errors.New("no limit is named: see runtimed update --help")
		case cmd.Flags().Changed("cpu-shares") && shares < 2:
			return fmt.Errorf("--cpu-shares %d: at least 2 is possible", shares)
		case cmd.Flags().Changed("pids-limit") && o.PidsLimit < 1:
			return fmt.Errorf("--pids-limit %d: at least 1 is possible", o.PidsLimit)
		}
		return nil
	}
	return cmd
}

func update(ctx context.Context, c *client.Client, name string, limits *v1.LinuxContainerResources) error {
	o, err := c.Container(ctx, name)
	if err != nil {
		return err
	}
	_, err = c.Runtime.UpdateContainerResources(ctx, &v1.UpdateContainerResourcesRequest{ContainerId: o.Id, Linux: limits})
	if err != nil {
		return c.Explain(fmt.Sprintf("update of container %q", name), err)
	}
	return nil
}
