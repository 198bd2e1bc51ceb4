package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/cmd/runtimed/client"
)

// completing bounds how long a person waits for a shell's completion.
const completing = 2 * time.Second

// names lists what an argument may be.
type names func(context.Context, *client.Client) []string

// completeNames completes a verb's arguments with the names of what there is; only the first one where the others are
// something else. With no daemon there are none, and nothing is said: the person is typing.
func completeNames(g *globals, cmd *cobra.Command, onlyFirst bool, of ...names) {
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if onlyFirst && len(args) > 0 {
			return nil, cobra.ShellCompDirectiveDefault
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completing)
		defer cancel()
		c, err := g.dial()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer c.Close()
		var all []string
		for _, list := range of {
			all = append(all, list(ctx, c)...)
		}
		return all, cobra.ShellCompDirectiveNoFileComp
	}
}

func containerNames(ctx context.Context, c *client.Client) (all []string) {
	r, err := c.Runtime.ListContainers(ctx, &v1.ListContainersRequest{})
	if err != nil {
		return nil
	}
	for _, o := range r.Containers {
		all = append(all, printable(o.GetMetadata().GetName()))
	}
	return all
}

func podNames(ctx context.Context, c *client.Client) (all []string) {
	r, err := c.Runtime.ListPodSandbox(ctx, &v1.ListPodSandboxRequest{})
	if err != nil {
		return nil
	}
	for _, o := range r.Items {
		all = append(all, printable(o.GetMetadata().GetName()))
	}
	return all
}

func imageNames(ctx context.Context, c *client.Client) (all []string) {
	r, err := c.Images.ListImages(ctx, &v1.ListImagesRequest{})
	if err != nil {
		return nil
	}
	for _, o := range r.Images {
		for _, tag := range o.RepoTags {
			all = append(all, printable(tag))
		}
	}
	return all
}

// completeVerbs says which names each verb takes.
func completeVerbs(g *globals, root *cobra.Command) {
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "stop", "kill", "stats", "update":
			completeNames(g, cmd, false, containerNames)
		case "logs", "exec", "attach":
			completeNames(g, cmd, true, containerNames)
		case "port-forward":
			completeNames(g, cmd, true, podNames)
		case "rm":
			completeNames(g, cmd, false, containerNames, podNames)
		case "inspect":
			completeNames(g, cmd, false, containerNames, podNames, imageNames)
		case "rmi":
			completeNames(g, cmd, false, imageNames)
		case "run", "pull":
			completeNames(g, cmd, true, imageNames)
		}
	}
}
