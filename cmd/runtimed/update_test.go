package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func TestUpdate(t *testing.T) {
	d := serveFakes(t, "")
	d.wants(0, nil, "run", "-d", "--name", "one", "--memory", "64m", "busybox")
	d.wants(0, []string{"one"}, "update", "--memory", "128m", "--cpus", "0.5", "--cpu-shares", "77", "--cpuset-cpus", "0-1", "--pids-limit", "9", "one")
	got := d.pods()[0].Containers[0].Resources
	if got == nil || got.MemoryLimit != 128<<20 || got.CPUQuota != 50000 || got.CPUPeriod != 100000 || got.CPUShares != 77 ||
		got.CPUSetCPUs != "0-1" || got.Unified["pids.max"] != "9" {
		t.Errorf("limits: %+v", got)
	}
	for _, c := range [][]string{
		{"no limit is named", "one"}, {"--memory", "--memory", "lots", "one"}, {"--cpus", "--cpus", "0", "one"},
		{"--cpu-shares", "--cpu-shares", "1", "one"}, {"--pids-limit", "--pids-limit", "0", "one"},
		{"there is no container", "--cpus", "1", "two"}, {"cpuset_cpus", "--cpuset-cpus", "x", "one"}, {"arg", "--cpus", "1"},
	} {
		d.wants(125, c[:1], append([]string{"update"}, c[1:]...)...)
	}
	d.wants(0, nil, "stop", "one")
	d.wants(125, []string{"exited"}, "update", "--cpus", "1", "one")
}

// Events are those of the fake, and then the daemon stops.
func (r *fakeRuntime) Events(ctx context.Context, subscribed func(), each func(spec.Event) error) error {
	subscribed()
	for _, e := range r.EventsOf {
		if err := each(e); err != nil {
			return err
		}
	}
	return spec.Errorf(errdefs.ErrUnavailable, "the daemon is stopping")
}

func TestEvents(t *testing.T) {
	d := serveFakes(t, "")
	d.wants(0, nil, "run", "-d", "--name", "one", "busybox")
	d.wants(0, nil, "stop", "one")
	pod := d.pods()[0]
	pod.Timestamp = time.Unix(5, 0)
	c := pod.Containers[0].Spec.ID
	d.runtime.EventsOf = []spec.Event{
		{Kind: spec.EventCreated, ID: pod.Spec.ID, Sandbox: pod}, {Kind: spec.EventStopped, ID: c, Sandbox: pod}, {Kind: spec.EventDeleted, ID: "gone", Sandbox: pod},
	}
	d.wants(125, []string{"1970-01-01T00:00:05Z pod created " + pod.Spec.ID[:13] + " name=one pod=one\n",
		"container stopped " + c[:13] + " name=one pod=one code=143 reason=Error\n", "container deleted gone name= pod=one\n"}, "events")
	a := d.wants(125, nil, "events", "-o", "json")
	var all []event
	for dec := json.NewDecoder(strings.NewReader(a.out)); dec.More(); {
		var e event
		if err := dec.Decode(&e); err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	if len(all) != 3 || all[0].Kind != "pod" || all[1].ExitCode == nil || *all[1].ExitCode != 143 || all[1].Name != "one" || all[2].ExitCode != nil ||
		!all[0].Time.Equal(pod.Timestamp) || all[2].PodID != pod.Spec.ID {
		t.Errorf("%+v", all)
	}
	d.wants(125, []string{"-o"}, "events", "-o", "yaml")
}
