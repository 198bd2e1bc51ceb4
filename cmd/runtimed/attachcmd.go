package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/runtimed/runtimed/cmd/runtimed/client"
	"github.com/runtimed/runtimed/cmd/runtimed/session"
	"github.com/runtimed/runtimed/pkg/cri/control/controlpb"
)

func attachCommand(g *globals) *cobra.Command {
	var names string
	var noStdin bool
	cmd := &cobra.Command{
		Use:   "attach [--no-stdin] CONTAINER",
		Short: "Connect with a running container's own program",
		Long: `Connect standard input and output with a running container's own program, until its end, whose exit code is this
program's, or until the detach keys are typed. SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 are passed on.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			keys, err := session.ParseKeys(names)
			if err != nil {
				return err
			}
			c, err := g.dial()
			if err != nil {
				return err
			}
			defer c.Close()
			found, err := c.Container(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			a := &attachment{client: c, id: found.Id, name: args[0]}
			o := session.Options{Stdout: cmd.OutOrStdout(), Stderr: cmd.ErrOrStderr(), Keys: keys}
			if !noStdin {
				o.Stdin = cmd.InOrStdin()
			}
			return a.run(cmd.Context(), o)
		},
	}
	cmd.Flags().BoolVar(&noStdin, "no-stdin", false, "do not pass standard input on")
	keysFlag(cmd, &names)
	return cmd
}

// attachment is one `runtimed attach`.
type attachment struct {
	client   *client.Client
	id, name string
}

func (a *attachment) run(parent context.Context, o session.Options) error {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	defer a.passSignals(ctx)()
	asked := fmt.Sprintf("attach to container %q", a.name)
	wait := a.client.Wait(ctx, a.id) // before its end, which --rm would leave nothing of
	tty, err := a.terminal(ctx)
	if err != nil {
		return a.client.Explain(asked, err)
	}
	if tty && o.Stdin != nil {
		if o.Terminal, err = session.Raw(o.Stdin); err != nil {
			return err
		}
		defer o.Terminal.Restore()
	}
	o.Begin = &controlpb.StreamInput{Message: &controlpb.StreamInput_BeginAttach{BeginAttach: &controlpb.BeginAttach{
		ContainerId: a.id, Stdin: o.Stdin != nil, Size: o.Terminal.Size(),
	}}}
	call, err := a.client.Control.Attach(ctx)
	if err != nil {
		return a.client.Explain(asked, err)
	}
	if _, err := session.Run(call, o); err != nil {
		o.Terminal.Restore()
		return ending(ctx, a.client, asked, 0, err)
	}
	return a.exit(wait, asked)
}

// terminal tells whether the container has one: a session without streams says so, and ends.
func (a *attachment) terminal(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	call, err := a.client.Control.Attach(ctx)
	if err != nil {
		return false, err
	}
	if err := call.Send(&controlpb.StreamInput{Message: &controlpb.StreamInput_BeginAttach{BeginAttach: &controlpb.BeginAttach{ContainerId: a.id}}}); err != nil {
		return false, err
	}
	m, err := call.Recv()
	return m.GetStarted().GetTty(), err
}

// exit makes the container's exit code this program's.
func (a *attachment) exit(wait func() (*controlpb.WaitResponse, error), asked string) error {
	type answer struct {
		end *controlpb.WaitResponse
		err error
	}
	ended := make(chan answer, 1)
	go func() {
		end, err := wait()
		ended <- answer{end, err}
	}()
	select {
	case e := <-ended:
		if e.err != nil {
			return a.client.Explain(asked, e.err)
		}
		if e.end.ExitCode != 0 {
			return &client.Exit{Code: int(e.end.ExitCode)}
		}
		return nil
	case <-time.After(10 * time.Second):
		return errors.New("the session has ended, and the container runs on")
	}
}

// passSignals gives the container the signals that this program gets.
func (a *attachment) passSignals(ctx context.Context) (stop func()) {
	in, done := make(chan os.Signal, 16), make(chan struct{})
	signal.Notify(in, passed...)
	signal.Ignore(syscall.SIGPIPE)
	go func() {
		for {
			select {
			case s := <-in:
				a.client.Control.Signal(ctx, &controlpb.SignalRequest{ContainerId: a.id, Signal: int32(s.(syscall.Signal))})
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(in)
		signal.Reset(syscall.SIGPIPE)
		close(done)
	}
}
