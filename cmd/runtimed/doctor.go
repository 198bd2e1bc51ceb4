package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/runtimed/runtimed/cmd/runtimed/client"
	"github.com/runtimed/runtimed/cmd/runtimed/config"
	"github.com/runtimed/runtimed/cmd/runtimed/doctor"
	"github.com/runtimed/runtimed/pkg/sandbox/leak"
)

// report is what doctor found.
type report struct {
	Checks []doctor.Result `json:"checks,omitempty"`
	Leaks  *[]leak.Leak    `json:"leaks,omitempty"`
}

func doctorCommand(g *globals) *cobra.Command {
	var leaks bool
	var output string
	cmd := &cobra.Command{
		Use:   "doctor [--leaks]",
		Short: "Look at this node for what keeps the daemon from working, or for what it left behind",
		Long: `Look at this node for what keeps the daemon from working. With --leaks, look for processes, mounts, pins, links, rules,
addresses, control groups, directories and ranges of ids that no record names instead. No daemon is needed; it must run in
the namespaces in which the daemon does. The exit code is 1 when anything is wrong, 125 when it could not be looked at.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(g.config)
			if err != nil {
				return err
			}
			var r report
			if leaks {
				found, err := doctor.Leaks(cmd.Context(), c)
				if err != nil {
					return fmt.Errorf("leak check: %w", err)
				}
				found = append([]leak.Leak{}, found...)
				r.Leaks = &found
			} else {
				r.Checks = doctor.Look(cmd.Context(), c)
			}
			if output == "json" {
				err = printJSON(cmd.OutOrStdout(), r)
			} else {
				r.print(cmd.OutOrStdout())
			}
			if err == nil && r.wrong() {
				return &client.Exit{Code: 1}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&leaks, "leaks", false, "look for what the daemon left behind")
	outputFlag(cmd, &output)
	return cmd
}

func (r report) wrong() bool {
	for _, c := range r.Checks {
		if c.Verdict == doctor.Bad {
			return true
		}
	}
	return r.Leaks != nil && len(*r.Leaks) > 0
}

func (r report) print(w io.Writer) {
	for _, c := range r.Checks {
		fmt.Fprintf(w, "%-4s  %s: %s\n", c.Verdict, c.Check, printable(c.Text))
		if c.Verdict != doctor.OK && c.Fix != "" {
			fmt.Fprintf(w, "      → %s\n", printable(c.Fix))
		}
	}
	if r.Leaks == nil {
		return
	}
	for _, l := range *r.Leaks {
		fmt.Fprintf(w, "%s: %s\n      → %s\n", l.Kind, printable(l.What), printable(l.Fix))
	}
	switch n := len(*r.Leaks); n {
	case 0:
		fmt.Fprintln(w, "nothing is left behind")
	case 1:
		fmt.Fprintln(w, "1 leak")
	default:
		fmt.Fprintf(w, "%d leaks\n", n)
	}
}
