package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/runtimed/runtimed/cmd/runtimed/client"
	"github.com/runtimed/runtimed/cmd/runtimed/config"
	"github.com/runtimed/runtimed/pkg/cri/control/controlpb"
)

// globals are the flags that every verb understands.
type globals struct {
	config string
	socket string
}

// register adds the flags to the root command.
func (g *globals) register(cmd *cobra.Command) {
	cmd.PersistentFlags().StringVar(&g.config, "config", config.DefaultFile, "configuration `file`")
	cmd.PersistentFlags().StringVar(&g.socket, "socket", "", "`path` of the daemon's socket (default: where the configuration puts it)")
}

// dial connects to the daemon: at --socket, or where the configuration says.
func (g *globals) dial() (*client.Client, error) {
	socket := strings.TrimPrefix(g.socket, "unix://")
	if socket == "" {
		c, err := config.Load(g.config)
		if err != nil {
			return nil, err
		}
		socket = c.Layout().Socket()
	}
	return client.Dial(socket)
}

// with runs f with a connection, and a context that the first SIGINT or SIGTERM ends.
func (g *globals) with(cmd *cobra.Command, f func(context.Context, *client.Client) error) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	c, err := g.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	return f(ctx, c)
}

// warnTrust says aloud that images are taken unverified. That the daemon cannot be asked shows with the next call.
func warnTrust(ctx context.Context, c *client.Client, stderr io.Writer) {
	if info, err := c.Control.Info(ctx, &controlpb.InfoRequest{}); err == nil && info.TrustMode == "off" {
		fmt.Fprintln(stderr, "warning: trust.mode is off: the daemon takes every image unverified")
	}
}

// outputFlag is -o: "" is for a person, "json" for programs.
func outputFlag(cmd *cobra.Command, into *string) {
	cmd.Flags().StringVarP(into, "output", "o", "table", "how to print: table or json")
	cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
	check := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if *into != "table" && *into != "json" {
			return fmt.Errorf("-o %q: table and json are possible", *into)
		}
		if check != nil {
			return check(cmd, args)
		}
		return nil
	}
}

// printJSON prints a value for programs.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// message is a message of the CRI as plain data, with the names that the CRI gives its fields.
func message(m proto.Message) (any, error) {
	b, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	var v any
	return v, json.Unmarshal(b, &v)
}

// clients gives verbs their exit codes: what goes wrong is runtimed's own error, 125, unless it brings a code.
func clients(all ...*cobra.Command) []*cobra.Command {
	own := func(err error) error {
		if err == nil {
			return nil
		}
		return &client.Exit{Code: client.ExitCode(err), Err: said(err)}
	}
	for _, cmd := range all {
		run, args, before := cmd.RunE, cmd.Args, cmd.PreRunE
		cmd.RunE = func(cmd *cobra.Command, a []string) error { return own(run(cmd, a)) }
		cmd.Args = func(cmd *cobra.Command, a []string) error { return own(args(cmd, a)) }
		if before != nil {
			cmd.PreRunE = func(cmd *cobra.Command, a []string) error { return own(before(cmd, a)) }
		}
		cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return own(err) })
	}
	return all
}

// said is what there is to print of an error: nothing of a bare exit code.
func said(err error) error {
	if e := (*client.Exit)(nil); errors.As(err, &e) && e.Silent() {
		return nil
	}
	return err
}
