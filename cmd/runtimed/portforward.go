package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/runtimed/runtimed/cmd/runtimed/client"
	"github.com/runtimed/runtimed/cmd/runtimed/session"
	"github.com/runtimed/runtimed/pkg/cri/control/controlpb"
)

func portForwardCommand(g *globals) *cobra.Command {
	var address string
	cmd := &cobra.Command{
		Use:   "port-forward [--address IP] POD [LOCAL:]REMOTE…",
		Short: "Reach ports of a pod on ports of this machine",
		Long: `Listen on ports of this machine, and connect who comes there with ports of a pod, also with those that listen on its
loopback alone. LOCAL is REMOTE where it is not given, and any free port where it is 0 or empty. It runs until it is
interrupted.`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ports, err := parsePorts(args[1:])
			if err != nil {
				return err
			}
			ip := net.ParseIP(address)
			if ip == nil {
				return fmt.Errorf("--address %q is not an IP address", address)
			}
			c, err := g.dial()
			if err != nil {
				return err
			}
			defer c.Close()
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			pod, err := c.Pod(ctx, args[0])
			if err != nil {
				return err
			}
			f := &portForward{client: c, pod: pod.Id, out: cmd.OutOrStdout(), errs: cmd.ErrOrStderr()}
			return f.run(ctx, ip.String(), ports)
		},
	}
	cmd.Flags().StringVar(&address, "address", "127.0.0.1", "`IP` address of this machine to listen on")
	return cmd
}

type portPair struct{ local, remote uint16 }

// parsePorts reads [LOCAL:]REMOTE.
func parsePorts(args []string) ([]portPair, error) {
	var out []portPair
	for _, a := range args {
		local, remote, two := strings.Cut(a, ":")
		if !two {
			remote = local
		}
		r, err := strconv.ParseUint(remote, 10, 16)
		if err != nil || r == 0 {
			return nil, fmt.Errorf("%q: the pod's port %q is not a number from 1 to 65535", a, remote)
		}
		l := uint64(0)
		if local != "" {
			if l, err = strconv.ParseUint(local, 10, 16); err != nil {
				return nil, fmt.Errorf("%q: the local port %q is not a number from 0 to 65535", a, local)
			}
		}
		out = append(out, portPair{uint16(l), uint16(r)})
	}
	return out, nil
}

// portForward is one `runtimed port-forward`.
type portForward struct {
	client    *client.Client
	pod       string
	out, errs io.Writer
	mu        sync.Mutex // of errs
	conns     sync.WaitGroup
}

// run listens on all ports, or on none.
func (f *portForward) run(ctx context.Context, ip string, ports []portPair) error {
	ctx, cancel := context.WithCancel(ctx)
	defer f.conns.Wait()
	defer cancel()
	var all []net.Listener
	for _, p := range ports {
		l, err := net.Listen("tcp", net.JoinHostPort(ip, strconv.Itoa(int(p.local))))
		if err != nil {
			return fmt.Errorf("port-forward: %w", err)
		}
		defer l.Close()
		all = append(all, l)
	}
	failed := make(chan error, len(all))
	for i, l := range all {
		fmt.Fprintf(f.out, "Forwarding from %s to %d\n", l.Addr(), ports[i].remote)
		go func() { failed <- f.accept(ctx, l, ports[i].remote) }()
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (f *portForward) accept(ctx context.Context, l net.Listener, port uint16) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		f.conns.Go(func() {
			defer c.Close()
			if err := f.carry(ctx, c, port); err != nil && ctx.Err() == nil {
				f.mu.Lock()
				defer f.mu.Unlock()
				fmt.Fprintf(f.errs, "runtimed: %v\n", f.client.Explain(fmt.Sprintf("connection to port %d", port), err))
			}
		})
	}
}

// carry is one connection. Each direction ends by itself.
func (f *portForward) carry(ctx context.Context, c net.Conn, port uint16) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	call, err := f.client.Control.PortForward(ctx)
	if err != nil {
		return err
	}
	_, err = session.Run(call, session.Options{
		Begin: &controlpb.StreamInput{Message: &controlpb.StreamInput_BeginPortForward{
			BeginPortForward: &controlpb.BeginPortForward{PodSandboxId: f.pod, Port: uint32(port)},
		}},
		Stdin: c, Stdout: c, Stderr: io.Discard,
	})
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
