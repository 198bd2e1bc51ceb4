package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/cmd/runtimed/client"
	"github.com/runtimed/runtimed/cmd/runtimed/request"
	"github.com/runtimed/runtimed/pkg/cri/control/controlpb"
)

func stopCommand(g *globals) *cobra.Command {
	var timeout int64
	cmd := &cobra.Command{
		Use:   "stop [-t SECONDS] CONTAINER…",
		Short: "Stop containers: their stop signal, then SIGKILL",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if timeout < 0 {
				return fmt.Errorf("-t %d: at least 0 is possible", timeout)
			}
			return g.each(cmd, args, func(ctx context.Context, c *client.Client, name string) error { return stop(ctx, c, name, timeout) })
		},
	}
	cmd.Flags().Int64VarP(&timeout, "time", "t", 10, "`seconds` between the stop signal and SIGKILL; 0 kills at once")
	return cmd
}

// each does one thing to many objects, prints the names of those for which it was done, and goes on behind a failure.
func (g *globals) each(cmd *cobra.Command, names []string, f func(context.Context, *client.Client, string) error) error {
	return g.with(cmd, func(ctx context.Context, c *client.Client) error {
		var all []error
		for _, name := range names {
			if err := f(ctx, c, name); err != nil {
				all = append(all, err)
				continue
			}
			fmt.Fprintln(cmd.OutOrStdout(), name)
		}
		return errors.Join(all...)
	})
}

func stop(ctx context.Context, c *client.Client, name string, timeout int64) error {
	o, err := c.Container(ctx, name)
	if err != nil {
		return err
	}
	asked := fmt.Sprintf("stop of container %q", name)
	if _, err := c.Runtime.StopContainer(ctx, &v1.StopContainerRequest{ContainerId: o.Id, Timeout: timeout}); err != nil {
		return c.Explain(asked, err)
	}
	if !ours(o.Labels) {
		return nil
	}
	// Its pod has no other container and never gets one: what it holds of the node is given back.
	_, err = c.Runtime.StopPodSandbox(ctx, &v1.StopPodSandboxRequest{PodSandboxId: o.PodSandboxId})
	return c.Explain(asked, err)
}

// ours tells whether `runtimed run` made an object with these labels.
func ours(labels map[string]string) bool { return labels[request.LabelKey] == request.LabelValue }

func killCommand(g *globals) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "kill [-s SIGNAL] CONTAINER…",
		Short: "Send a signal to containers' first processes",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			sig, err := parseSignal(name)
			if err != nil {
				return err
			}
			return g.each(cmd, args, func(ctx context.Context, c *client.Client, name string) error {
				o, err := c.Container(ctx, name)
				if err != nil {
					return err
				}
				_, err = c.Control.Signal(ctx, &controlpb.SignalRequest{ContainerId: o.Id, Signal: sig})
				return c.Explain(fmt.Sprintf("signal %s to container %q", name, name), err)
			})
		},
	}
	cmd.Flags().StringVarP(&name, "signal", "s", "KILL", "`signal` by name or number")
	return cmd
}

// parseSignal reads KILL, SIGKILL, 9 and RTMIN+n (signal(7), with glibc's RTMIN, 34).
func parseSignal(s string) (int32, error) {
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if n, err := strconv.ParseUint(name, 10, 7); err == nil && n >= 1 && n <= 64 {
		return int32(n), nil
	}
	if n := unix.SignalNum("SIG" + name); n != 0 {
		return int32(n), nil
	}
	const rtmin, rtmax = 34, 64
	if rest, ok := strings.CutPrefix(name, "RTMIN"); ok {
		n, err := strconv.ParseUint("0"+strings.TrimPrefix(rest, "+"), 10, 7)
		if err == nil && n <= rtmax-rtmin && (rest == "" || rest[0] == '+') {
			return int32(rtmin + n), nil
		}
	}
	return 0, fmt.Errorf("-s %q: the name of a signal, such as TERM, or its number, 1 to 64, is possible", s)
}

func rmCommand(g *globals) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "rm [-f] CONTAINER|POD…",
		Short: "Remove containers or pods",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.each(cmd, args, func(ctx context.Context, c *client.Client, name string) error { return remove(ctx, c, name, force) })
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "those that run, too: they are killed")
	return cmd
}

func remove(ctx context.Context, c *client.Client, name string, force bool) error {
	asked := fmt.Sprintf("removal of %q", name)
	o, err := c.Container(ctx, name)
	if err != nil && !client.Absent(err) {
		return fmt.Errorf("%s: %w", asked, err)
	}
	if err != nil {
		return removePod(ctx, c, name, force, err)
	}
	if o.State == v1.ContainerState_CONTAINER_RUNNING && !force {
		return fmt.Errorf("%s: the container is running: stop it first, or use -f", asked)
	}
	if ours(o.Labels) {
		_, err = c.Runtime.RemovePodSandbox(ctx, &v1.RemovePodSandboxRequest{PodSandboxId: o.PodSandboxId})
		return c.Explain(asked, err)
	}
	_, err = c.Runtime.RemoveContainer(ctx, &v1.RemoveContainerRequest{ContainerId: o.Id})
	return c.Explain(asked, err)
}

// removePod is for a name that is no container's; noContainer says so.
func removePod(ctx context.Context, c *client.Client, name string, force bool, noContainer error) error {
	asked := fmt.Sprintf("removal of %q", name)
	p, err := c.Pod(ctx, name)
	if err != nil && !client.Absent(err) {
		return fmt.Errorf("%s: %w", asked, err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w, nor a pod", asked, noContainer)
	}
	if !force {
		r, err := c.Runtime.ListContainers(ctx, &v1.ListContainersRequest{Filter: &v1.ContainerFilter{
			PodSandboxId: p.Id, State: &v1.ContainerStateValue{State: v1.ContainerState_CONTAINER_RUNNING}}})
		if err != nil {
			return c.Explain(asked, err)
		}
		if n := len(r.Containers); n > 0 {
			return fmt.Errorf("%s: %d containers of the pod are running: stop them first, or use -f", asked, n)
		}
	}
	_, err = c.Runtime.RemovePodSandbox(ctx, &v1.RemovePodSandboxRequest{PodSandboxId: p.Id})
	return c.Explain(asked, err)
}

// undoTime bounds what is taken down when nobody waits for it any more.
const undoTime = 30 * time.Second
