package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/cmd/runtimed/client"
)

// inspected is one object of `runtimed inspect`: the CRI's status, and what the daemon adds for a person.
type inspected struct {
	Kind   string         `json:"kind"`
	Status any            `json:"status"`
	Info   map[string]any `json:"info"`
}

func inspectCommand(g *globals) *cobra.Command {
	var output, kind string
	cmd := &cobra.Command{
		Use:   "inspect NAME…",
		Short: "Show all that is known of containers, pods or images, as JSON",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.with(cmd, func(ctx context.Context, c *client.Client) error {
				all := []inspected{}
				for _, name := range args {
					one, err := inspect(ctx, c, kind, name)
					if err != nil {
						return err
					}
					all = append(all, one)
				}
				return printJSON(cmd.OutOrStdout(), all)
			})
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "json", "how to print: json")
	cmd.Flags().StringVar(&kind, "type", "", "what the names are: container, pod or image (default: the first of them that fits)")
	cmd.PreRunE = func(*cobra.Command, []string) error {
		switch {
		case output != "json":
			return fmt.Errorf("-o %q: json is possible", output)
		case kind != "" && kind != "container" && kind != "pod" && kind != "image":
			return fmt.Errorf("--type %q: container, pod and image are possible", kind)
		}
		return nil
	}
	return cmd
}

func inspect(ctx context.Context, c *client.Client, kind, name string) (inspected, error) {
	var first error
	for _, k := range []struct {
		name string
		show func(context.Context, *client.Client, string) (inspected, error)
	}{{"container", inspectContainer}, {"pod", inspectPod}, {"image", inspectImage}} {
		if kind != "" && kind != k.name {
			continue
		}
		one, err := k.show(ctx, c, name)
		if err == nil {
			return one, nil
		}
		if !client.Absent(err) {
			return inspected{}, err
		}
		if first == nil {
			first = err
		}
	}
	if kind == "" {
		return inspected{}, fmt.Errorf("there is no container, pod or image %q", name)
	}
	return inspected{}, first
}

func inspectContainer(ctx context.Context, c *client.Client, name string) (inspected, error) {
	o, err := c.Container(ctx, name)
	if err != nil {
		return inspected{}, err
	}
	r, err := c.Runtime.ContainerStatus(ctx, &v1.ContainerStatusRequest{ContainerId: o.Id, Verbose: true})
	if err != nil {
		return inspected{}, c.Explain(fmt.Sprintf("container %q", name), err)
	}
	return show("container", r.Status, r.Info)
}

func inspectPod(ctx context.Context, c *client.Client, name string) (inspected, error) {
	o, err := c.Pod(ctx, name)
	if err != nil {
		return inspected{}, err
	}
	r, err := c.Runtime.PodSandboxStatus(ctx, &v1.PodSandboxStatusRequest{PodSandboxId: o.Id, Verbose: true})
	if err != nil {
		return inspected{}, c.Explain(fmt.Sprintf("pod %q", name), err)
	}
	return show("pod", r.Status, r.Info)
}

func inspectImage(ctx context.Context, c *client.Client, name string) (inspected, error) {
	r, err := c.Images.ImageStatus(ctx, &v1.ImageStatusRequest{Image: &v1.ImageSpec{Image: name}, Verbose: true})
	if err != nil {
		return inspected{}, c.Explain(fmt.Sprintf("image %q", name), err)
	}
	if r.Image == nil {
		return inspected{}, fmt.Errorf("there is no local image %q: pull it first", name)
	}
	return show("image", r.Image, r.Info)
}

func show(kind string, status proto.Message, info map[string]string) (inspected, error) {
	plain, err := message(status)
	if err != nil {
		return inspected{}, err
	}
	out := inspected{Kind: kind, Status: plain, Info: map[string]any{}}
	for name, text := range info {
		var v any = text
		if json.Valid([]byte(text)) {
			v = json.RawMessage(text)
		}
		out.Info[name] = v
	}
	return out, nil
}
