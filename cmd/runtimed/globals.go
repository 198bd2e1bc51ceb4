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

// with runs f with a connection, and a context that the first SIGINT or SIGTERM ends. What such a signal breaks off has
// the exit code that it has in a shell, 128+n.
func (g *globals) with(cmd *cobra.Command, f func(context.Context, *client.Client) error) error {
	in := make(chan os.Signal, 1)
	signal.Notify(in, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(in)
	ctx, cancel := context.WithCancelCause(cmd.Context())
	defer cancel(nil)
	go func() {
		select {
		case sig := <-in:
			cancel(&client.Exit{Code: 128 + int(sig.(syscall.Signal))})
		case <-ctx.Done():
		}
	}()
	c, err := g.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	err = f(ctx, c)
	if broken := (*client.Exit)(nil); err != nil && errors.As(context.Cause(ctx), &broken) {
		return &client.Exit{Code: broken.Code, Err: said(err)}
	}
	return err
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
