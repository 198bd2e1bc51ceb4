package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func TestStats(t *testing.T) {
	d := serveFakes(t, "")
	d.images.Add(spec.Image{ID: "sha256:" + strings.Repeat("1", 64), RepoTags: []string{"docker.io/library/busybox:latest"}})
	for _, name := range []string{"web", "db"} {
		if a := d.cli("run", "-d", "--name", name, "busybox"); a.code != 0 {
			t.Fatalf("%+v", a)
		}
	}
	a := d.wants(0, []string{"CONTAINER", "MEMORY / LIMIT", "web", "db", "100.0%", "64MiB / 128MiB", "60MiB", "8KiB"}, "stats", "--no-stream", "--interval", "200ms")
	if n := strings.Count(a.out, "CONTAINER"); n != 1 || strings.Contains(a.out, "\x1b") {
		t.Errorf("%d tables: %q", n, a.out)
	}
	if a := d.wants(0, []string{"web"}, "stats", "--no-stream", "--interval", "200ms", "web"); strings.Contains(a.out, "db") {
		t.Errorf("not chosen: %q", a.out)
	}
	d.wants(0, []string{"NAMESPACE", "RECEIVED / SENT", "1B / 5B"}, "stats", "--pods", "--no-stream", "--interval", "200ms")
	d.wants(125, []string{`nothing that runs is called "none"`}, "stats", "--no-stream", "none")
	d.wants(125, []string{"--interval 1ms is shorter than 100ms"}, "stats", "--interval", "1ms")
	d.wants(125, []string{"table and json are possible"}, "stats", "-o", "xml")

	var rows []use
	a = d.cli("stats", "--no-stream", "--interval", "200ms", "-o", "json")
	if err := json.Unmarshal([]byte(a.out), &rows); err != nil || len(rows) != 2 || rows[0].NanoCores == nil || *rows[0].Limit != 128<<20 || *rows[0].Inodes != 2 {
		t.Errorf("%v: %s", err, a.out)
	}
	d.stop()
	d.wants(125, nil, "stats", "--no-stream")
}

// lines lets a test wait for output of a command that does not end.
type lines struct{ got chan string }

func (l lines) Write(b []byte) (int, error) {
	select {
	case l.got <- string(b):
	default: // nobody waits any more
	}
	return len(b), nil
}

func TestStatsGoOnUntilInterrupted(t *testing.T) {
	d := serveFakes(t, "")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := lines{make(chan string, 100)}
	cmd := root()
	cmd.SetArgs([]string{"--socket", d.socket, "stats", "--interval", "100ms", "-o", "json"})
	cmd.SetOut(out)
	done := make(chan error, 1)
	go func() { done <- cmd.ExecuteContext(ctx) }()
	for range 3 {
		select {
		case line := <-out.got:
			if line != "[]\n" {
				t.Fatalf("%q", line)
			}
		case err := <-done:
			t.Fatalf("it ended: %v", err)
		case <-time.After(30 * time.Second):
			t.Fatal("nothing is printed")
		}
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("an interrupt is an error: %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("it goes on")
	}
}

func TestUse(t *testing.T) {
	u := use{at: 2e9, CPUTotal: 5e8}
	u.since(use{})
	if u.NanoCores != nil {
		t.Error("a rate from one reading")
	}
	u.since(use{at: 1e9, CPUTotal: 25e7})
	if *u.NanoCores != 25e7 || percent(u.NanoCores) != "25.0%" {
		t.Errorf("%d, %s", *u.NanoCores, percent(u.NanoCores))
	}
	u = use{at: 2e9, CPUTotal: 1}
	u.since(use{at: 1e9, CPUTotal: 25e7}) // another that took its place
	if u.NanoCores != nil || percent(nil) != "-" || size(nil) != "-" || count(nil) != "-" {
		t.Error("made up")
	}
	if u := containerUse(&v1.ContainerStats{}); u.Disk != nil || u.Limit != nil || u.Swap != nil || u.memory() != "0B / -" {
		t.Errorf("%+v", u)
	}
	if u := podUse(&v1.PodSandboxStats{}); u.Received != nil || u.Processes != nil {
		t.Errorf("%+v", u)
	}
}
