// Command runtimed is the daemon and its command line: see `runtimed help`.
package main

import (
	"fmt"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the build (-ldflags -X main.version=…).
var version = "0.1.0-dev"

func main() {
	if err := root().Execute(); err != nil {
		if quiet, ok := err.(interface{ Silent() bool }); !ok || !quiet.Silent() {
			fmt.Fprintln(os.Stderr, spoken(err))
		}
		os.Exit(exitCode(err))
	}
}

// root is the command with all of its verbs, each in a file of its own.
func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "runtimed",
		Short: "A sandboxed container runtime for Kubernetes, and for a machine of its own",
		Args:  unknownCommand,
		// Errors are printed by main, once; what is wrong with a call is no reason to print all flags.
		SilenceUsage: true, SilenceErrors: true,
		Version: fullVersion(),
		RunE:    help,
	}
	g := &globals{}
	g.register(cmd)
	cmd.AddCommand(serveCommand(g), configCommand(g))
	cmd.AddCommand(clients(
		runCommand(g), psCommand(g), podsCommand(g), inspectCommand(g), logsCommand(g), execCommand(g), attachCommand(g), cpCommand(g), portForwardCommand(g), stopCommand(g), killCommand(g),
		rmCommand(g), imagesCommand(g), statsCommand(g), updateCommand(g), eventsCommand(g), pullCommand(g), rmiCommand(g), versionCommand(g), doctorCommand(g),
	)...)
	completeVerbs(g, cmd)
	return cmd
}

// help is what a command does that only has others below it; with an Args of cobra.NoArgs an unknown one is an error.
func help(cmd *cobra.Command, _ []string) error { return cmd.Help() }

// fullVersion adds the commit that the binary was built from, where it knows.
func fullVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return version + "+" + s.Value[:12]
		}
	}
	return version
}

// exitCode is the process's exit code for an error: 1, or what the error brings.
func exitCode(err error) int {
	if e, ok := err.(interface{ ExitCode() int }); ok {
		return e.ExitCode()
	}
	return 1
}
