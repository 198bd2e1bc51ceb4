package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/cmd/runtimed/client"
	"github.com/runtimed/runtimed/cmd/runtimed/request"
	"github.com/runtimed/runtimed/cmd/runtimed/session"
	"github.com/runtimed/runtimed/pkg/cri/control/controlpb"
)

// runFlags are what `run` was asked for.
type runFlags struct {
	request          request.Options
	entrypoint       string
	detach           bool
	remove           bool
	interactive, tty bool
	keyNames         string
	keys             []byte
}

func runCommand(g *globals) *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run [flags] IMAGE [COMMAND…]",
		Short: "Run a command in a new container, in a pod of its own",
		Long: `Run a command in a new container, in a pod of its own, and pull the image where it is missing.

In the foreground the container's output is printed as it comes, SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2
are passed on to it, and its exit code is this program's. A second Ctrl-C stops the container as ` + "`runtimed stop`" + ` does, a
third kills it, a fourth leaves it alone. When nobody reads its output any more it is killed, as a program in that
pipeline would be. Exit codes: 125 runtimed itself failed, 126 the command cannot be executed, 127 it is not there,
128+n it was ended by signal n.

With -i and -t what is typed is the container's, Ctrl-C too. The detach keys leave it running.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o := f.request
			o.Image, o.Args, o.LookupEnv, o.Getwd = args[0], args[1:], os.LookupEnv, os.Getwd
			if cmd.Flags().Changed("entrypoint") {
				o.Entrypoint = &f.entrypoint
			}
			if cmd.Flags().Changed("pids-limit") && o.PidsLimit < 1 {
				return fmt.Errorf("--pids-limit %d: at least 1 is possible", o.PidsLimit)
			}
			var err error
			if f.keys, err = session.ParseKeys(f.keyNames); err != nil {
				return err
			}
			f.request = o
			c, err := g.dial()
			if err != nil {
				return err
			}
			defer c.Close()
			r := &runner{client: c, flags: f, stdin: cmd.InOrStdin(), stdout: cmd.OutOrStdout(), stderr: cmd.ErrOrStderr()}
			return r.run(cmd.Context())
		},
	}
	f.register(cmd)
	return cmd
}

func (f *runFlags) register(cmd *cobra.Command) {
	o, fl := &f.request, cmd.Flags()
	fl.SetInterspersed(false) // what follows the image is the container's
	fl.BoolVarP(&f.detach, "detach", "d", false, "print the container's id and leave it running")
	fl.BoolVar(&f.remove, "rm", false, "remove it when it has ended")
	fl.StringVar(&o.Name, "name", "", "`name` of pod and container (default: made up)")
	fl.StringVarP(&o.Workdir, "workdir", "w", "", "`directory` to begin in (default: the image's)")
	fl.StringVar(&f.entrypoint, "entrypoint", "", "`program` in place of the image's entrypoint; the image's arguments go with it")
	fl.StringVar(&o.Network, "network", "pod", "pod: a network of its own; host: the node's, without a user namespace")
	fl.StringArrayVarP(&o.Ports, "publish", "p", nil, "publish a port: `[IP:]HOST:CONTAINER[/udp]`")
	fl.StringArrayVarP(&o.Volumes, "volume", "v", nil, "mount a path of the node: `SOURCE:TARGET[:ro]`")
	fl.StringArrayVarP(&o.Env, "env", "e", nil, "set a variable: `NAME=VALUE`, or NAME for the value that it has here")
	fl.StringVarP(&o.User, "user", "u", "", "`UID|NAME[:GID]` to run as (default: the image's)")
	fl.StringVarP(&o.Memory, "memory", "m", "", "limit of memory in `bytes`, or with b, k, m, g")
	fl.StringVar(&o.CPUs, "cpus", "", "limit of processors, such as `1.5`")
	fl.Int64Var(&o.PidsLimit, "pids-limit", 0, "limit of processes and threads")
	fl.BoolVar(&o.ReadOnly, "read-only", false, "mount the root read-only")
	fl.BoolVar(&o.Privileged, "privileged", false, "all capabilities and devices, no filter and no user namespace: root on this node in all but name")
	fl.BoolVarP(&f.interactive, "interactive", "i", false, "pass standard input on; with -d: keep it open for runtimed attach")
	fl.BoolVarP(&f.tty, "tty", "t", false, "give it a terminal")
	keysFlag(cmd, &f.keyNames)
	cmd.RegisterFlagCompletionFunc("network", cobra.FixedCompletions([]string{"pod", "host"}, cobra.ShellCompDirectiveNoFileComp))
}

// runner is one `runtimed run`.
type runner struct {
	client *client.Client
	flags  runFlags
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer

	pod, container string // ids, as they come to be
	// unsure is the pod that was asked for when the call was broken off: it may be there.
	unsure *v1.PodSandboxConfig
}

func (r *runner) say(format string, args ...any) {
	fmt.Fprintf(r.stderr, "runtimed: "+format+"\n", args...)
}

// run makes pod and container; on failure nothing of them is left.
func (r *runner) run(ctx context.Context) error {
	o := &r.flags.request
	o.UID = random(16)
	if o.Name == "" {
		o.Name = "run-" + random(4)
	}
	pod, container, err := request.Build(*o)
	if err != nil {
		return err
	}
	container.Stdin, container.StdinOnce, container.Tty = r.flags.interactive, r.flags.interactive && !r.flags.detach, r.flags.tty
	signals := catch(ctx, r)
	defer signals.end()
	if err := r.make(signals.making, pod, container); err != nil {
		r.undo()
		if cause := context.Cause(signals.making); cause != nil && ctx.Err() == nil {
			return cause // the signal, not the call that it broke off
		}
		return err
	}
	if r.flags.detach {
		fmt.Fprintln(r.stdout, r.container)
		return nil
	}
	return r.attach(signals)
}

func random(bytes int) string {
	b := make([]byte, bytes)
	rand.Read(b) // does not fail (crypto/rand)
	return hex.EncodeToString(b)
}

func (r *runner) make(ctx context.Context, pod *v1.PodSandboxConfig, container *v1.ContainerConfig) error {
	c, asked := r.client, fmt.Sprintf("run of %q", r.flags.request.Image)
	if err := r.free(ctx, pod.Metadata.Name); err != nil {
		return err
	}
	warnTrust(ctx, c, r.stderr)
	if err := r.ensureImage(ctx); err != nil {
		return err
	}
	sandbox, err := c.Runtime.RunPodSandbox(ctx, &v1.RunPodSandboxRequest{Config: pod})
	if ctx.Err() != nil {
		r.unsure = pod
	}
	if err != nil {
		return c.Explain(asked, err)
	}
	r.pod = sandbox.PodSandboxId
	// Another run may have taken the name meanwhile. Whichever of the two comes here last sees the other.
	if err := r.free(ctx, pod.Metadata.Name); err != nil {
		return err
	}
	made, err := c.Runtime.CreateContainer(ctx, &v1.CreateContainerRequest{PodSandboxId: r.pod, Config: container, SandboxConfig: pod})
	if err != nil {
		return c.Explain(asked, err)
	}
	r.container = made.ContainerId
	if r.flags.remove && r.flags.detach {
		if err := r.removeOnExit(ctx); err != nil {
			return err
		}
	}
	if _, err := c.Runtime.StartContainer(ctx, &v1.StartContainerRequest{ContainerId: r.container}); err != nil {
		return &client.Exit{Code: client.StartCode(err), Err: c.Explain(asked, err)}
	}
	return nil
}

// free refuses a name that another container or pod has: a person could not tell them apart.
func (r *runner) free(ctx context.Context, name string) error {
	list, err := r.client.Runtime.ListPodSandbox(ctx, &v1.ListPodSandboxRequest{})
	if err != nil {
		return r.client.Explain(fmt.Sprintf("run of %q", r.flags.request.Image), err)
	}
	for _, p := range list.Items {
		if p.Id != r.pod && p.GetMetadata().GetName() == name && p.GetMetadata().GetNamespace() == "default" {
			return fmt.Errorf("--name %q: pod %s has it: remove that (runtimed rm %[1]s), or choose another", name, client.Short(p.Id))
		}
	}
	return nil
}

// ensureImage pulls the image where it is missing.
func (r *runner) ensureImage(ctx context.Context) error {
	ref := r.flags.request.Image
	s, err := r.client.Images.ImageStatus(ctx, &v1.ImageStatusRequest{Image: &v1.ImageSpec{Image: ref}})
	if err != nil {
		return r.client.Explain(fmt.Sprintf("image %q", ref), err)
	}
	if s.Image != nil {
		return nil
	}
	r.say("pulling %s", printable(ref))
	_, err = pull(ctx, r.client, ref, nil)
	return err
}

func (r *runner) removeOnExit(ctx context.Context) error {
	_, err := r.client.Control.RemoveOnExit(ctx, &controlpb.RemoveOnExitRequest{PodSandboxId: r.pod})
	return r.client.Explain("--rm", err)
}

// undo removes the pod, if there is one, also when the user has lost patience already.
func (r *runner) undo() {
	if r.pod == "" && r.unsure == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), undoTime)
	defer cancel()
	if r.pod == "" {
		// Asked for once more, it is the one that was made, or it is made now: the daemon gives up what was broken off
		// behind its caller's back, and may have been done with it. Only its id tells that nothing of it stays.
		again, err := r.client.Runtime.RunPodSandbox(ctx, &v1.RunPodSandboxRequest{Config: r.unsure})
		if err != nil {
			return // then it cannot be made, and what cannot be made is undone
		}
		r.pod = again.PodSandboxId
	}
	if _, err := r.client.Runtime.RemovePodSandbox(ctx, &v1.RemovePodSandboxRequest{PodSandboxId: r.pod}); err != nil {
		r.say("%v; remove it with: runtimed rm -f %s", r.client.Explain("removal of the pod", err), client.Short(r.pod))
	}
}
