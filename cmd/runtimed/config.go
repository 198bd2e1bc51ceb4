package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/runtimed/runtimed/cmd/runtimed/config"
)

func configCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Show and check the configuration", Args: unknownCommand, RunE: help}
	cmd.AddCommand(configShow(g), configCheck(g))
	return cmd
}

func configShow(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Print the effective configuration, with each key's meaning and where its value comes from",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(g.config)
			if err != nil {
				return err
			}
			return c.Write(cmd.OutOrStdout())
		},
	}
	return cmd
}

func configCheck(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "check [FILE]",
		Short: "Say all that is wrong with a configuration file",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file := g.config
			if len(args) == 1 {
				file = args[0]
			}
			if _, err := config.Load(file); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: nothing is wrong\n", file)
			return err
		},
	}
}
