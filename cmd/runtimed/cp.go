package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/runtimed/runtimed/cmd/runtimed/client"
	"github.com/runtimed/runtimed/cmd/runtimed/session"
	"github.com/runtimed/runtimed/pkg/cri/control/controlpb"
	"github.com/runtimed/runtimed/pkg/filecopy"
)

func cpCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "cp SOURCE DEST",
		Short: "Copy files from or to a running container",
		Long: `Copy a file, a link or a directory between this machine and a running container. One of the two is CONTAINER:PATH, where
PATH begins at the container's root; a path of this machine that holds a colon is written with a slash before it (./a:b).

A directory that is there as DEST gets the copy, with its name; else DEST is what the copy is called. SOURCE/. means what is
in the directory. Permissions and times of change are kept, set-user-id bits are not; links stay links and are not followed;
the owner is root inside, or who runs this. Devices, sockets and pipes are left out.

No program of the image is used: the copier is runtimed's own, and has the container's confinement. What a copy replaces is
gone when it is broken off.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := parseCopy(args[0], args[1])
			if err != nil {
				return err
			}
			if c.client, err = g.dial(); err != nil {
				return err
			}
			defer c.client.Close()
			return c.run(cmd)
		},
	}
}

// copying is one copy, in one of the two directions.
type copying struct {
	client       *client.Client
	container    string
	local, inner string // paths: of this machine, of the container
	out          bool   // of the container
	name         string // of the copy, where the destination is a directory
}

func parseCopy(source, dest string) (*copying, error) {
	from, fromPath, fromInner := strings.Cut(source, ":")
	to, toPath, toInner := strings.Cut(dest, ":")
	fromInner = fromInner && !strings.Contains(from, "/")
	toInner = toInner && !strings.Contains(to, "/")
	c := &copying{container: to, local: source, inner: toPath, name: filecopy.Contents}
	switch {
	case fromInner == toInner:
		return nil, errors.New("one of SOURCE and DEST must be CONTAINER:PATH, and only one")
	case fromInner:
		c = &copying{container: from, local: dest, inner: fromPath, name: filecopy.Contents, out: true}
	}
	if c.container == "" || c.inner == "" || c.local == "" {
		return nil, errors.New("a path, or the container's name, is missing")
	}
	if c.local == "-" {
		return nil, errors.New("- is not possible: no archives are written or read; a file called - is ./-")
	}
	if !strings.HasPrefix(c.inner, "/") {
		c.inner = "/" + c.inner
	}
	path := c.inner
	if !c.out {
		path = c.local
	}
	if path == "." || strings.HasSuffix(path, "/.") {
		return c, nil
	}
	absolute, err := filepath.Abs(path)
	if err == nil && absolute != "/" {
		c.name = filepath.Base(absolute)
	}
	return c, err
}

func (c *copying) run(cmd *cobra.Command) error {
	ctx, stop := interruptible(cmd.Context())
	defer stop()
	asked := fmt.Sprintf("copy to container %q", c.container)
	if c.out {
		asked = fmt.Sprintf("copy from container %q", c.container)
	}
	found, err := c.client.Container(ctx, c.container)
	if err != nil {
		return err
	}
	said := &firstWords{}
	move, command := c.put, filecopy.Put(c.inner, c.name)
	if c.out {
		move, command = c.get, filecopy.Get(c.inner)
	}
	o := session.Options{Stderr: said, Begin: &controlpb.StreamInput{Message: &controlpb.StreamInput_BeginExec{BeginExec: &controlpb.BeginExec{
		ContainerId: found.Id, Command: command, Stdin: !c.out, Copy: true,
	}}}}
	call, err := c.client.Control.Exec(ctx)
	if err != nil {
		return c.client.Explain(asked, err)
	}
	warn := func(text string) { fmt.Fprintln(cmd.ErrOrStderr(), printable(text)) }
	code, err := move(call, o, warn)
	for _, line := range said.lines() {
		if code == 0 {
			warn(line)
		}
	}
	return c.ended(ctx, asked, code, err, said)
}

// ended is the copy's result. What the container's side says is shown, and never believed.
func (c *copying) ended(ctx context.Context, asked string, code int, err error, said *firstWords) error {
	switch {
	case context.Cause(ctx) != nil:
		return context.Cause(ctx)
	case code != 0 && (err == nil || errors.Is(err, filecopy.ErrCut)):
		return fmt.Errorf("%s: %s", asked, printable(strings.Join(said.lines(), "; ")))
	case err != nil:
		return c.client.Explain(asked, err)
	}
	return nil
}

// put sends this machine's files; an error of its own ends the session, whose stream is then cut.
func (c *copying) put(call session.Call, o session.Options, warn func(string)) (int, error) {
	r, w := io.Pipe()
	sent := make(chan error, 1)
	go func() {
		err := filecopy.Send(w, c.local, warn)
		w.Close()
		sent <- err
	}()
	o.Stdin, o.Stdout = r, io.Discard
	code, err := session.Run(call, o)
	r.Close()
	if failed := <-sent; failed != nil && !errors.Is(failed, io.ErrClosedPipe) {
		return 0, failed // the other side only saw a cut stream
	}
	return code, err
}

// get makes files of this machine of what the container's side sends.
func (c *copying) get(call session.Call, o session.Options, _ func(string)) (int, error) {
	r, w := io.Pipe()
	made := make(chan error, 1)
	go func() {
		err := filecopy.Receive(r, c.local, c.name)
		r.CloseWithError(err)
		made <- err
	}()
	o.Stdout = w
	code, err := session.Run(call, o)
	w.CloseWithError(err)
	if failed := <-made; failed != nil {
		return code, failed
	}
	return code, err
}

// firstWords keeps the beginning of what the container's side complains about.
type firstWords struct{ kept []byte }

const maxWords = 16 << 10

func (f *firstWords) Write(b []byte) (int, error) {
	f.kept = append(f.kept, b[:min(len(b), maxWords-len(f.kept))]...)
	return len(b), nil
}

func (f *firstWords) lines() []string {
	text := string(bytes.TrimSpace(bytes.ToValidUTF8(f.kept, []byte("?"))))
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}
