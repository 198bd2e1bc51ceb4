package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/cmd/runtimed/client"
)

// container, pod and image are the lists' lines; their JSON is for programs, and only ever grows.
type container struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	PodID     string    `json:"podId"`
	Image     string    `json:"image"`
	ImageID   string    `json:"imageId"`
	State     string    `json:"state"`
	ExitCode  *int32    `json:"exitCode,omitempty"`
	Reason    string    `json:"reason,omitempty"`
	CreatedAt time.Time `json:"createdAt"`
}

type pod struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Namespace string    `json:"namespace"`
	State     string    `json:"state"`
	IPs       []string  `json:"ips"`
	CreatedAt time.Time `json:"createdAt"`
}

type image struct {
	ID      string   `json:"id"`
	Tags    []string `json:"tags"`
	Digests []string `json:"digests"`
	Size    uint64   `json:"size"`
}

func psCommand(g *globals) *cobra.Command {
	var all, quiet bool
	var output string
	cmd := &cobra.Command{Use: "ps", Short: "List containers", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return g.with(cmd, func(ctx context.Context, c *client.Client) error {
			rows, err := containers(ctx, c, all)
			if err != nil {
				return c.Explain("list of containers", err)
			}
			if quiet {
				return printIDs(cmd.OutOrStdout(), rows, func(r container) string { return r.ID })
			}
			if output == "json" {
				return printJSON(cmd.OutOrStdout(), rows)
			}
			return containerTable(cmd.OutOrStdout(), rows, time.Now())
		})
	}}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "those that do not run, too")
	outputFlag(cmd, &output)
	quietFlag(cmd, &quiet)
	return cmd
}

// containers lists what runs, or everything, oldest first. How an exited one ended is asked for one by one.
func containers(ctx context.Context, c *client.Client, all bool) ([]container, error) {
	r, err := c.Runtime.ListContainers(ctx, &v1.ListContainersRequest{})
	if err != nil {
		return nil, err
	}
	rows := []container{}
	for _, o := range r.Containers {
		if !all && o.State != v1.ContainerState_CONTAINER_RUNNING {
			continue
		}
		row := container{
			ID: o.Id, Name: o.GetMetadata().GetName(), PodID: o.PodSandboxId, Image: o.GetImage().GetImage(), ImageID: o.ImageId,
			State: stateWord(o.State.String(), "CONTAINER_"), CreatedAt: time.Unix(0, o.CreatedAt).UTC(),
		}
		if o.State == v1.ContainerState_CONTAINER_EXITED {
			// One that was removed meanwhile is shown without its end.
			if s, err := c.Runtime.ContainerStatus(ctx, &v1.ContainerStatusRequest{ContainerId: o.Id}); err == nil {
				row.ExitCode, row.Reason = &s.Status.ExitCode, s.Status.Reason
			}
		}
		rows = append(rows, row)
	}
	slices.SortStableFunc(rows, func(a, b container) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return rows, nil
}

func stateWord(s, prefix string) string { return strings.ToLower(strings.TrimPrefix(s, prefix)) }

func containerTable(w io.Writer, rows []container, now time.Time) error {
	t := table(w, "CONTAINER", "NAME", "IMAGE", "CREATED", "STATE", "POD")
	for _, r := range rows {
		state := r.State
		if r.ExitCode != nil {
			state = fmt.Sprintf("%s (%d", state, *r.ExitCode)
			if r.Reason != "" && r.Reason != "Completed" && r.Reason != "Error" {
				state += ", " + r.Reason
			}
			state += ")"
		}
		t.row(client.Short(r.ID), r.Name, r.Image, ago(now, r.CreatedAt), state, client.Short(r.PodID))
	}
	return t.Flush()
}

func podsCommand(g *globals) *cobra.Command {
	var quiet bool
	var output string
	cmd := &cobra.Command{Use: "pods", Short: "List pods", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return g.with(cmd, func(ctx context.Context, c *client.Client) error {
			rows, err := pods(ctx, c)
			if err != nil {
				return c.Explain("list of pods", err)
			}
			if quiet {
				return printIDs(cmd.OutOrStdout(), rows, func(r pod) string { return r.ID })
			}
			if output == "json" {
				return printJSON(cmd.OutOrStdout(), rows)
			}
			return podTable(cmd.OutOrStdout(), rows, time.Now())
		})
	}}
	outputFlag(cmd, &output)
	quietFlag(cmd, &quiet)
	return cmd
}

func pods(ctx context.Context, c *client.Client) ([]pod, error) {
	r, err := c.Runtime.ListPodSandbox(ctx, &v1.ListPodSandboxRequest{})
	if err != nil {
		return nil, err
	}
	rows := []pod{}
	for _, o := range r.Items {
		row := pod{
			ID: o.Id, Name: o.GetMetadata().GetName(), Namespace: o.GetMetadata().GetNamespace(),
			State: stateWord(o.State.String(), "SANDBOX_"), CreatedAt: time.Unix(0, o.CreatedAt).UTC(), IPs: []string{},
		}
		if s, err := c.Runtime.PodSandboxStatus(ctx, &v1.PodSandboxStatusRequest{PodSandboxId: o.Id}); err == nil {
			if n := s.GetStatus().GetNetwork(); n.GetIp() != "" {
				row.IPs = append(row.IPs, n.GetIp())
				for _, more := range n.GetAdditionalIps() {
					row.IPs = append(row.IPs, more.GetIp())
				}
			}
		}
		rows = append(rows, row)
	}
	slices.SortStableFunc(rows, func(a, b pod) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return rows, nil
}

func podTable(w io.Writer, rows []pod, now time.Time) error {
	t := table(w, "POD", "NAME", "NAMESPACE", "CREATED", "STATE", "IP")
	for _, r := range rows {
		t.row(client.Short(r.ID), r.Name, r.Namespace, ago(now, r.CreatedAt), r.State, strings.Join(r.IPs, ","))
	}
	return t.Flush()
}

func imagesCommand(g *globals) *cobra.Command {
	var quiet bool
	var output string
	cmd := &cobra.Command{Use: "images", Short: "List local images", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return g.with(cmd, func(ctx context.Context, c *client.Client) error {
			r, err := c.Images.ListImages(ctx, &v1.ListImagesRequest{})
			if err != nil {
				return c.Explain("list of images", err)
			}
			rows := imageRows(r.Images)
			if quiet {
				return printIDs(cmd.OutOrStdout(), rows, func(r image) string { return r.ID })
			}
			if output == "json" {
				return printJSON(cmd.OutOrStdout(), rows)
			}
			return imageTable(cmd.OutOrStdout(), rows)
		})
	}}
	outputFlag(cmd, &output)
	quietFlag(cmd, &quiet)
	return cmd
}

func imageRows(in []*v1.Image) []image {
	rows := []image{}
	for _, o := range in {
		rows = append(rows, image{ID: o.Id, Tags: append([]string{}, o.RepoTags...), Digests: append([]string{}, o.RepoDigests...), Size: o.Size})
	}
	return rows
}

func imageTable(w io.Writer, rows []image) error {
	t := table(w, "IMAGE", "ID", "SIZE")
	for _, r := range rows {
		names := r.Tags
		if len(names) == 0 {
			names = r.Digests
		}
		if len(names) == 0 {
			names = []string{"-"}
		}
		for _, name := range names {
			t.row(name, client.Short(r.ID), units.BytesSize(float64(r.Size)))
		}
	}
	return t.Flush()
}

// quietFlag is -q, as other runtimes have it: for $(…) and xargs.
func quietFlag(cmd *cobra.Command, into *bool) {
	cmd.Flags().BoolVarP(into, "quiet", "q", false, "print ids only, one a line")
	check := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if *into && cmd.Flags().Changed("output") {
			return errors.New("-q and -o: one of them is possible")
		}
		return check(cmd, args)
	}
}

func printIDs[T any](w io.Writer, rows []T, id func(T) string) error {
	for _, r := range rows {
		if _, err := fmt.Fprintln(w, id(r)); err != nil {
			return err
		}
	}
	return nil
}

// columns is a table for a person.
type columns struct{ *tabwriter.Writer }

func table(w io.Writer, heads ...string) columns {
	t := columns{tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)}
	t.row(heads...)
	return t
}

// row writes a line. What others named is shown without what a terminal would obey.
func (t columns) row(cells ...string) {
	for i, c := range cells {
		cells[i] = printable(c)
	}
	fmt.Fprintln(t, strings.Join(cells, "\t"))
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' || r >= '\u202a' && r <= '\u202e' {
			return '?'
		}
		return r
	}, s)
}

func ago(now, then time.Time) string { return units.HumanDuration(now.Sub(then)) + " ago" }
