package main

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/runtimed/runtimed/cmd/runtimed/client"
)

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
		cmd.RunE = func(cmd *cobra.Command, a []string) error {
			return own(printing(cmd, func() error { return run(cmd, a) }))
		}
		cmd.Args = func(cmd *cobra.Command, a []string) error { return own(misused(cmd, args(cmd, a))) }
		if before != nil {
			cmd.PreRunE = func(cmd *cobra.Command, a []string) error { return own(before(cmd, a)) }
		}
		cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return own(misused(cmd, plain(err))) })
		// cobra would add "[flags]" at the end, where they are not all flags or not understood any more.
		cmd.DisableFlagsInUseLine = strings.Contains(cmd.Use, "[-") || strings.Contains(cmd.Use, "[flags]")
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

// misused adds to an error about arguments or flags how the verb wants to be called.
func misused(cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w; usage: %s (see %s --help)", err, cmd.UseLine(), cmd.CommandPath())
}

// parsing is what strconv says of a number; what was written and for which flag is said already.
var parsing = regexp.MustCompile(`strconv\.\w+: parsing ".*": `)

func plain(err error) error {
	text := parsing.ReplaceAllString(err.Error(), "")
	if text == err.Error() {
		return err
	}
	return errors.New(text)
}

// unknownCommand is what there is to say when a word is no command.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	text := fmt.Sprintf("there is no command %q", cmd.CommandPath()+" "+args[0])
	cmd.SuggestionsMinimumDistance = 1
	if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
		text += "; is " + strings.Join(like, " or ") + " meant?"
	}
	return fmt.Errorf("%s (%s --help lists them)", text, cmd.CommandPath())
}

// printer remembers that something could not be printed.
type printer struct {
	io.Writer
	err error
}

func (p *printer) Write(b []byte) (int, error) {
	n, err := p.Writer.Write(b)
	if err != nil && p.err == nil {
		p.err = err
	}
	return n, err
}

// printing runs f, and fails when f has done its work but could not say so: a script would take the nothing that it
// reads for the answer.
func printing(cmd *cobra.Command, f func() error) error {
	out := cmd.OutOrStdout()
	p := &printer{Writer: out}
	cmd.SetOut(p)
	defer cmd.SetOut(out)
	if err := f(); err != nil || p.err == nil {
		return err
	}
	return fmt.Errorf("it is done, but what there was to print is lost: %w", p.err)
}

// spoken puts the program's name before each of several errors.
func spoken(err error) string {
	var several interface{ Unwrap() []error }
	if !errors.As(err, &several) {
		return "runtimed: " + err.Error()
	}
	return "runtimed: " + strings.ReplaceAll(err.Error(), "\n", "\nruntimed: ")
}
