package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/runtimed/runtimed/integration/daemontest"
)

// The transcript of a person with crictl, with the short ids that crictl itself prints: every subcommand that talks to a
// runtime.
func TestCrictlTranscript(t *testing.T) {
	x := newTranscript(t)
	x.node()
	x.image()
	x.pods()
	x.lifecycle()
	x.streams()
	x.forward()
	x.figures()
	x.changes()
	x.refused()
	x.removal()
	x.complete()
}

// node is what there is before anything runs.
func (x *transcript) node() {
	x.want("version", x.run("version"), "RuntimeName:  runtimed", "RuntimeApiVersion:  v1")
	x.want("info", x.run("info"), `"RuntimeReady"`, `"NetworkReady"`, `"runtimeHandlers"`)
	x.want("runtime-config", x.run("runtime-config"), "cgroup")
	x.want("imagefsinfo", x.run("imagefsinfo"), x.d.Layout.Root, "usedBytes")
	x.run("update-runtime-config", "--pod-cidr", "10.63.0.0/16")
}

func (x *transcript) image() {
	x.want("pull", x.run("pull", x.d.Image), "Image is up to date for sha256:")
	id := column(x.t, x.run("images"), 1, 2)
	x.want("images", x.run("images"), "/busybox", id)
	x.want("images -v", x.run("images", "-v"), "RepoTags: "+x.d.Image)
	x.want("inspecti", x.run("inspecti", id), x.d.Image, `"imageSpec"`)
	if got := x.run("images", "-q", x.d.Image); got == "" {
		x.t.Error("images with a filter finds nothing")
	}
}

func (x *transcript) pods() {
	id := column(x.t, x.run("runp", x.podFile)+"\n", 0, 0)
	x.pod = column(x.t, x.run("pods"), 1, 0)
	if len(x.pod) != 13 || !strings.HasPrefix(id, x.pod) {
		x.t.Fatalf("crictl pods prints %q for %s", x.pod, id)
	}
	x.want("pods", x.run("pods"), "Ready", "web", "shop")
	x.want("inspectp", x.run("inspectp", x.pod), `"state": "SANDBOX_READY"`, `"ip": "10.`)
	if got := x.run("pods", "-q", "--name", "nobody"); got != "" {
		x.t.Errorf("pods with a filter: %q", got)
	}
}

// lifecycle is a container's, while somebody watches its events.
func (x *transcript) lifecycle() {
	t := x.t
	events := x.background("", "events")
	// Only when an event has arrived is it certain that the next ones are seen.
	n := 0
	daemontest.Eventually(t, 20*time.Second, func() error {
		n++
		x.run("stop", "-t", "1", x.run("run", "--no-pull", x.file(fmt.Sprint("early", n)), x.podFile2))
		if !strings.Contains(events.said(), "CONTAINER_STARTED_EVENT") {
			return fmt.Errorf("events: %q", events.said())
		}
		return nil
	})
	x.run("rmp", "-f", x.run("pods", "-q", "--name", "second"))
	x.run("create", x.pod, x.file("front"), x.podFile)
	x.ctr = column(t, x.run("ps", "-a"), 1, 0)
	x.want("ps -a", x.run("ps", "-a"), "Created", "front")
	x.want("start", x.run("start", x.ctr), x.ctr)
	x.want("ps", x.run("ps"), "Running", "front", x.ctr, x.pod)
	x.await("logs", "hello from web", "logs", x.ctr)
	if got := x.run("logs", "--tail", "1", x.ctr); got != "second line" {
		t.Errorf("logs --tail 1: %q", got)
	}
	x.want("inspect", x.run("inspect", x.ctr), `"state": "CONTAINER_RUNNING"`, `"pid":`, `"runtimeSpec"`)

	x.run("create", x.pod, x.file("short"), x.podFile)
	short := column(t, x.run("ps", "-a", "--name", "short"), 1, 0)
	full := x.run("ps", "-a", "-q", "--name", "short")
	x.run("start", short)
	x.want("stop", x.run("stop", "-t", "5", short), short)
	x.want("ps -a", x.run("ps", "-a"), "Exited")
	x.want("rm", x.run("rm", short), short)
	var got []string
	daemontest.Eventually(t, daemontest.Patience, func() error {
		got = eventsOf(events.said(), full)
		if len(got) < 4 {
			return fmt.Errorf("events of %s: %q in %s", full, got, events.said())
		}
		return nil
	})
	if fmt.Sprint(got) != "[CONTAINER_CREATED_EVENT CONTAINER_STARTED_EVENT CONTAINER_STOPPED_EVENT CONTAINER_DELETED_EVENT]" {
		t.Errorf("events of a container: %q", got)
	}
	events.end()
}

// eventsOf are the types of the events of one container, in order.
func eventsOf(text, id string) []string {
	var out []string
	for d := json.NewDecoder(strings.NewReader(text)); ; {
		var e struct{ ContainerID, ContainerEventType string }
		if d.Decode(&e) != nil {
			return out
		}
		if e.ContainerID == id {
			out = append(out, e.ContainerEventType)
		}
	}
}

// figures are what is measured.
func (x *transcript) figures() {
	x.want("stats", x.run("stats", "-s", "1"), x.ctr, "front")
	x.want("stats -o json", x.run("stats", "-o", "json", x.ctr), `"usageCoreNanoSeconds"`, `"workingSetBytes"`, `"mountpoint"`)
	x.want("statsp", x.run("statsp", "-s", "1"), x.pod, "web")
	x.want("statsp -o json", x.run("statsp", "-o", "json", "--id", x.pod), `"eth0"`, `"processCount"`)
	x.want("metricdescs", x.run("metricdescs"), `"container_cpu_usage_seconds_total"`, `"labelKeys"`)
	x.want("metricsp", x.run("metricsp"), `"container_cpu_usage_seconds_total"`, `"front"`)
}

// changes are those to what runs.
func (x *transcript) changes() {
	x.run("update", "--memory", "67108864", "--cpu-quota", "50000", "--cpu-period", "100000", x.ctr)
	x.want("inspect after update", x.run("inspect", x.ctr), `"memoryLimitInBytes": "67108864"`, `"cpuQuota": "50000"`)
	memory := "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max"
	if got := x.run("exec", "-s", x.ctr, "/bin/sh", "-c", memory); got != "67108864" {
		x.t.Errorf("the kernel has %q after update", got)
	}
}

// refused is what this runtime does not do, and says so.
func (x *transcript) refused() {
	file := x.d.Dir + "/checkpoint.tar"
	o := x.try("", "checkpoint", "--export", file, x.ctr)
	if o.Code == 0 {
		x.t.Errorf("checkpoint: %+v", o)
	}
	x.want("checkpoint", o.Stderr, "Unimplemented", "checkpoint")
	for _, args := range [][]string{{"start", x.ctr}, {"inspect", "nobody"}, {"inspectp", "nobody"}, {"logs", "nobody"}, {"attach", "nobody"}, {"exec", "nobody", "true"}} {
		if o := x.try("", args...); o.Code == 0 {
			x.t.Errorf("crictl %v: %+v", args, o)
		}
	}
}

func (x *transcript) removal() {
	x.want("stop", x.run("stop", "-t", "5", x.ctr), x.ctr)
	x.want("rm", x.run("rm", "-a"), x.ctr)
	x.want("stopp", x.run("stopp", x.pod), "Stopped sandbox "+x.pod)
	x.want("pods", x.run("pods"), "NotReady")
	x.want("rmp", x.run("rmp", x.pod), "Removed sandbox "+x.pod)
	x.want("rmi", x.run("rmi", "--prune"), x.d.Image)
	for _, q := range [][]string{{"pods", "-q"}, {"ps", "-a", "-q"}, {"images", "-q"}} {
		if out := x.run(q...); out != "" {
			x.t.Errorf("crictl %v after all was removed: %q", q, out)
		}
	}
}

// complete compares what was said with what crictl says that it can.
func (x *transcript) complete() {
	_, list, found := strings.Cut(x.run("--help"), "\nCOMMANDS:\n")
	list, _, _ = strings.Cut(list, "\n\n")
	if !found || len(strings.Split(list, "\n")) < 30 {
		x.t.Fatalf("crictl --help lists %q", list)
	}
	local := []string{"completion", "config", "help"} // they talk to no runtime
	for line := range strings.Lines(list) {
		names, _, _ := strings.Cut(strings.TrimSpace(line), "  ")
		if all := strings.Split(names, ", "); !slices.ContainsFunc(all, func(n string) bool { return x.used[n] || slices.Contains(local, n) }) {
			x.t.Errorf("the transcript has no crictl %s", all[0])
		}
	}
}

// await runs a command until what it prints holds a text.
func (x *transcript) await(what, text string, args ...string) {
	x.t.Helper()
	daemontest.Eventually(x.t, 20*time.Second, func() error {
		if out := x.run(args...); !strings.Contains(out, text) {
			return fmt.Errorf("%s: %q", what, out)
		}
		return nil
	})
}
