package creator

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"unicode/utf8"

	"github.com/opencontainers/runc/libcontainer/configs"

	"github.com/runtimed/runtimed/pkg/sandbox/launch/wire"
	"github.com/runtimed/runtimed/pkg/sandbox/monitor"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

func TestExplain(t *testing.T) {
	const wrap = "unable to start container process: error during container init: "
	for in, want := range map[string]string{
		wrap + `exec: "/nope": stat /nope: no such file or directory`: `exec: "/nope": no such file or directory`,
		wrap + `exec: "nope": executable file not found in $PATH`:     `exec: "nope": executable file not found in $PATH`,
		wrap + `exec: "/a\"b": stat /a"b: no such file or directory`:  `exec: "/a\"b": no such file or directory`,
		wrap + `exec: "/a: stat /b: ": permission denied`:             `exec: "/a: stat /b: ": permission denied`,
		wrap + `exec: "torn`: `exec: "torn`,
		wrap + `exec: x`:     `exec: x`,
		"unable to create new parent process: too many open files":   "unable to create new parent process: too many open files",
		wrap + `error mounting "/a" to rootfs at "/b": no such file`: `error mounting "/a" to rootfs at "/b": no such file`,
	} {
		if got := explain(&step.Error{Step: "start", Err: errors.New(in)}); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	if got := explain(&step.Error{Step: "overlay", Err: errors.New("full")}); got != "overlay: full" {
		t.Errorf("got %q", got)
	}
	if got := explain(errors.New("plain")); got != "plain" {
		t.Errorf("got %q", got)
	}
	if explain(nil) == "" {
		t.Error("no reason at all")
	}
}

func FuzzExplain(f *testing.F) {
	for _, s := range []string{"", `exec: "/a": stat /a: b`, `exec: "`, `exec: "\x00": stat : `} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		report := wire.FormatError(explain(&step.Error{Step: "start", Err: errors.New(s)}))
		if _, failure, err := wire.ParseReport(report); err == nil && !utf8.ValidString(failure) {
			t.Fatalf("%q became %q", s, report)
		}
	})
}

func TestGroupFiles(t *testing.T) {
	dir := t.TempDir()
	group := func(name string, files ...string) string {
		must(t, os.MkdirAll(filepath.Join(dir, name), 0o755))
		for _, f := range files {
			must(t, os.WriteFile(filepath.Join(dir, name, f), nil, 0o644))
		}
		return filepath.Join(dir, name)
	}
	memory, devices := group("memory", "memory.oom_control"), group("devices")
	unified, old := group("unified", "cgroup.kill", "memory.events"), group("old")
	for name, c := range map[string]struct {
		groups map[string]string
		v2     bool
		want   monitor.Args
	}{
		"v2":                 {map[string]string{"": unified}, true, monitor.Args{OOMFile: unified + "/memory.events", KillFiles: []string{unified + "/cgroup.kill"}}},
		"v2, old kernel":     {map[string]string{"": old}, true, monitor.Args{ProcsFiles: []string{old + "/cgroup.procs"}}},
		"hybrid":             {map[string]string{"": unified, "memory": memory, "devices": devices}, false, monitor.Args{OOMFile: memory + "/memory.oom_control", KillFiles: []string{unified + "/cgroup.kill"}}},
		"hybrid, old kernel": {map[string]string{"": old, "memory": memory, "devices": devices}, false, monitor.Args{OOMFile: memory + "/memory.oom_control", ProcsFiles: []string{old + "/cgroup.procs"}}},
		"v1":                 {map[string]string{"memory": memory, "devices": devices}, false, monitor.Args{OOMFile: memory + "/memory.oom_control", ProcsFiles: []string{devices + "/cgroup.procs"}}},
		"v1, no memory":      {map[string]string{"devices": devices}, false, monitor.Args{ProcsFiles: []string{devices + "/cgroup.procs"}}},
	} {
		var got monitor.Args
		if groupFiles(&got, c.groups, c.v2); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
}

func TestMapByPath(t *testing.T) {
	own := []configs.IDMap{{ContainerID: 0, HostID: 1000, Size: 10}}
	other := []configs.IDMap{{ContainerID: 0, HostID: 2000, Size: 10}}
	mount := func(uids, gids []configs.IDMap) *configs.Mount {
		return &configs.Mount{IDMapping: &configs.MountIDMapping{UIDMappings: uids, GIDMappings: gids}}
	}
	c := &configs.Config{UIDMappings: own, GIDMappings: own, Mounts: []*configs.Mount{
		mount(own, own), mount(own, other), mount(other, own), {},
	}}
	mapByPath(c, "/ns")
	for i, want := range []string{"/ns", "", "", ""} {
		m := c.Mounts[i].IDMapping
		if m == nil {
			continue
		}
		if m.UserNSPath != want || (m.UIDMappings == nil) != (want != "") || (m.GIDMappings == nil) != (want != "") {
			t.Errorf("mount %d: %+v", i, m)
		}
	}
}

func TestSettleOOMScore(t *testing.T) {
	b, err := os.ReadFile("/proc/self/oom_score_adj")
	must(t, err)
	var own int
	fmt.Sscan(string(b), &own)
	var c configs.Config
	must(t, settleOOMScore(&c))
	if (c.OomScoreAdj != nil) != (own < 0) {
		t.Errorf("own score %d: got %v", own, c.OomScoreAdj)
	}
	asked := -5
	c.OomScoreAdj = &asked
	must(t, settleOOMScore(&c))
	if *c.OomScoreAdj != -5 {
		t.Errorf("what was asked became %d", *c.OomScoreAdj)
	}
}

func TestRefusedByHand(t *testing.T) {
	c := &creator{dir: "relative"}
	if err := c.prepare(Options{}); err == nil {
		t.Error("a relative record directory is accepted")
	}
	if c.program == "" || filepath.Base(c.program) != monitor.Binary {
		t.Errorf("the monitor is %q", c.program)
	}
}
