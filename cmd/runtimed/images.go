package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/cmd/runtimed/client"
	"github.com/runtimed/runtimed/cmd/runtimed/request"
)

func pullCommand(g *globals) *cobra.Command {
	var user string
	cmd := &cobra.Command{
		Use:   "pull IMAGE",
		Short: "Pull an image",
		Long: `Pull an image and print its id. Credentials come from the daemon's auth files (image.auth_files); with --username, the
password is read from the variable RUNTIMED_PASSWORD, because a command line is for everybody to see.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := request.CheckImage(args[0]); err != nil {
				return err
			}
			var auth *v1.AuthConfig
			if user != "" {
				password, set := os.LookupEnv("RUNTIMED_PASSWORD")
				if !set {
					return fmt.Errorf("--username %q: put the password into the variable RUNTIMED_PASSWORD", user)
				}
				auth = &v1.AuthConfig{Username: user, Password: password}
			}
			return g.with(cmd, func(ctx context.Context, c *client.Client) error {
				warnTrust(ctx, c, cmd.ErrOrStderr())
				id, err := pull(ctx, c, args[0], auth)
				if err == nil {
					fmt.Fprintln(cmd.OutOrStdout(), id)
				}
				return err
			})
		},
	}
	cmd.Flags().StringVarP(&user, "username", "u", "", "`name` to log in with at the registry")
	return cmd
}

func pull(ctx context.Context, c *client.Client, ref string, auth *v1.AuthConfig) (id string, err error) {
	r, err := c.Images.PullImage(ctx, &v1.PullImageRequest{Image: &v1.ImageSpec{Image: ref}, Auth: auth})
	if err != nil {
		return "", c.Explain(fmt.Sprintf("pull of %q", ref), err)
	}
	return r.ImageRef, nil
}

func rmiCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "rmi IMAGE…",
		Short: "Remove local images",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.each(cmd, args, func(ctx context.Context, c *client.Client, name string) error {
				asked := fmt.Sprintf("removal of image %q", name)
				r, err := c.Images.ImageStatus(ctx, &v1.ImageStatusRequest{Image: &v1.ImageSpec{Image: name}})
				if err != nil {
					return c.Explain(asked, err)
				}
				if r.Image == nil { // to the CRI, what is not there is removed; a person has mistyped
					return fmt.Errorf("%s: there is no such image", asked)
				}
				_, err = c.Images.RemoveImage(ctx, &v1.RemoveImageRequest{Image: &v1.ImageSpec{Image: name}})
				return c.Explain(asked, err)
			})
		},
	}
}
