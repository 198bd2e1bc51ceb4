package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/cmd/runtimed/client"
)

// event is one line of `runtimed events -o json`.
type event struct {
	Time  time.Time `json:"time"`
	Event string    `json:"event"` // created, started, stopped, deleted
	Kind  string    `json:"kind"`  // container or pod
	ID    string    `json:"id"`
	Name  string    `json:"name"` // of a deleted container it is not known any more
	PodID string    `json:"pod_id"`
	Pod   string    `json:"pod"`
	// ExitCode and Reason are those of a container that has stopped.
	ExitCode *int32 `json:"exit_code,omitempty"`
	Reason   string `json:"reason,omitempty"`
}

func eventsCommand(g *globals) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Print what happens to containers and pods, line by line",
		Long: `Print what happens to containers and pods from now on, line by line, until it is interrupted. The first who asks for events
after a start of the daemon, be it this command or the kubelet, also gets what happened since then, with the present time.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.with(cmd, func(ctx context.Context, c *client.Client) error {
				return follow(ctx, c, func(e event) error { return printEvent(cmd.OutOrStdout(), output, e) })
			})
		},
	}
	outputFlag(cmd, &output)
	return cmd
}

// follow calls each with every event until the caller leaves; that is no error.
func follow(ctx context.Context, c *client.Client, each func(event) error) error {
	events, err := c.Runtime.GetContainerEvents(ctx, &v1.GetEventsRequest{})
	for err == nil {
		var e *v1.ContainerEventResponse
		if e, err = events.Recv(); err == nil {
			if err := each(eventOf(e)); err != nil {
				return err
			}
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return c.Explain("events", err)
}

func eventOf(e *v1.ContainerEventResponse) event {
	pod := e.GetPodSandboxStatus()
	out := event{
		Time: time.Unix(0, e.CreatedAt).UTC(), Kind: "container", ID: e.ContainerId, PodID: pod.GetId(), Pod: pod.GetMetadata().GetName(),
		Event: strings.TrimSuffix(stateWord(e.ContainerEventType.String(), "CONTAINER_"), "_event"),
	}
	if e.ContainerId == pod.GetId() {
		out.Kind, out.Name = "pod", out.Pod
		return out
	}
	for _, s := range e.ContainersStatuses {
		if s.Id != e.ContainerId {
			continue
		}
		out.Name = s.GetMetadata().GetName()
		if s.State == v1.ContainerState_CONTAINER_EXITED && e.ContainerEventType == v1.ContainerEventType_CONTAINER_STOPPED_EVENT {
			out.ExitCode, out.Reason = &s.ExitCode, s.Reason
		}
	}
	return out
}

// printEvent prints one line: a person's, or an object of JSON.
func printEvent(w io.Writer, output string, e event) error {
	if output == "json" {
		return json.NewEncoder(w).Encode(e)
	}
	end := ""
	if e.ExitCode != nil {
		end = fmt.Sprintf(" code=%d reason=%s", *e.ExitCode, printable(e.Reason))
	}
	_, err := fmt.Fprintf(w, "%s %s %s %s name=%s pod=%s%s\n", e.Time.Format(time.RFC3339Nano), e.Kind, e.Event, client.Short(e.ID),
		printable(e.Name), printable(e.Pod), end)
	return err
}
