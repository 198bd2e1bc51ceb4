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

type execFlags struct {
	timeout          time.Duration
	interactive, tty bool
}

func execCommand(g *globals) *cobra.Command {
	var f execFlags
	cmd := &cobra.Command{
		Use:   "exec [-i] [-t] [--timeout D] CONTAINER COMMAND…",
		Short: "Run a command in a running container",
		Long: `Run a command in a running container. Its output is printed as it comes, and its exit code is this program's: 126 where it
cannot be executed, 127 where it is not there, 125 where runtimed itself failed, 128+n where signal n broke this off. When
this program ends first, the command is killed with all that it started.`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.timeout < 0 || f.timeout > 0 && f.timeout < time.Second {
				return fmt.Errorf("--timeout %v: at least 1s is possible", f.timeout)
			}
			c, err := g.dial()
			if err != nil {
				return err
			}
			defer c.Close()
			return f.run(cmd, c, args)
		},
	}
	fl := cmd.Flags()
	fl.SetInterspersed(false) // what follows the command is the command's
	fl.DurationVar(&f.timeout, "timeout", 0, "kill it after this `time` (0: never)")
	fl.BoolVarP(&f.interactive, "interactive", "i", false, "pass standard input on")
	fl.BoolVarP(&f.tty, "tty", "t", false, "give it a terminal")
	return cmd
}

func keysFlag(cmd *cobra.Command, into *string) {
	cmd.Flags().StringVar(into, "detach-keys", session.DefaultKeys, "`keys` that leave the session, for who types into a terminal; empty: none")
}

func (f *execFlags) run(cmd *cobra.Command, c *client.Client, args []string) error {
	ctx, stop := interruptible(cmd.Context())
	defer stop()
	asked := fmt.Sprintf("exec in container %q", args[0])
	found, err := c.Container(ctx, args[0])
	if err != nil {
		return err
	}
	if f.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, f.timeout, fmt.Errorf("%s: the command took longer than %v, and was killed", asked, f.timeout))
		defer cancel()
	}
	o := session.Options{Stdout: cmd.OutOrStdout(), Stderr: cmd.ErrOrStderr()}
	if f.interactive {
		o.Stdin = cmd.InOrStdin()
	}
	if f.interactive && f.tty {
		if o.Terminal, err = session.Raw(o.Stdin); err != nil {
			return err
		}
		defer o.Terminal.Restore()
	}
	o.Begin = &controlpb.StreamInput{Message: &controlpb.StreamInput_BeginExec{BeginExec: &controlpb.BeginExec{
		ContainerId: found.Id, Command: args[1:], Stdin: f.interactive, Tty: f.tty, Size: o.Terminal.Size(),
	}}}
	call, err := c.Control.Exec(ctx)
	if err != nil {
		return c.Explain(asked, err)
	}
	code, err := session.Run(call, o)
	return ending(ctx, c, asked, code, err)
}

// ending is how a session ends this program.
func ending(ctx context.Context, c *client.Client, asked string, code int, err error) error {
	switch cause := context.Cause(ctx); {
	case errors.Is(err, session.ErrDetached):
		return nil
	case err != nil && cause != nil:
		return cause
	case errors.Is(err, syscall.EPIPE):
		return &client.Exit{Code: 128 + int(syscall.SIGPIPE)} // as SIGPIPE would end the command, were it in the pipeline itself
	case err != nil:
		return c.Explain(asked, err)
	case code != 0:
		return &client.Exit{Code: code}
	}
	return nil
}

// interruptible ends with the first of the signals that end a program, as an exit code.
func interruptible(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	in, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(in, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	signal.Ignore(syscall.SIGPIPE) // a write to a pipe that nobody reads fails instead
	go func() {
		select {
		case s := <-in:
			cancel(&client.Exit{Code: 128 + int(s.(syscall.Signal))})
		case <-done:
		}
	}()
	return ctx, func() {
		signal.Stop(in)
		signal.Reset(syscall.SIGPIPE)
		close(done)
		cancel(nil)
	}
}
