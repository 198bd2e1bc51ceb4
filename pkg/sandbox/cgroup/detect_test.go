package cgroup

import (
	"reflect"
	"strings"
	"testing"

	"github.com/moby/sys/mountinfo"
)

const (
	legacyTable = `31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/x,name=systemd
70 31 0:32 / /mnt/again/memory rw - cgroup cgroup rw,memory
71 31 0:32 / /sys/fs/cgroup/mem2 rw - cgroup cgroup rw,memory
`
	hybridLine  = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
	unifiedLine = "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"
	partLine    = "31 23 0:28 /../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
)

func TestNodeOf(t *testing.T) {
	v1 := []Hierarchy{{"/sys/fs/cgroup/cpu,cpuacct", []string{"cpu", "cpuacct"}},
		{"/sys/fs/cgroup/memory", []string{"memory"}}, {"/sys/fs/cgroup/systemd", []string{"name=systemd"}}}
	for name, c := range map[string]struct {
		table string
		want  Node
		err   string
	}{
		"v1":          {legacyTable, Node{Mode: Legacy, Root: mountRoot, V1: v1}, ""},
		"hybrid":      {legacyTable + hybridLine, Node{Hybrid, mountRoot, v1, "/sys/fs/cgroup/unified"}, ""},
		"v2":          {unifiedLine, Node{Mode: Unified, Root: mountRoot, Unified: mountRoot}, ""},
		"none":        {"", Node{}, "no cgroup hierarchy"},
		"a part only": {partLine, Node{}, "cgroup namespace"},
	} {
		t.Run(name, func(t *testing.T) {
			mounts, err := mountinfo.GetMountsFromReader(strings.NewReader(c.table),
				mountinfo.FSTypeFilter("cgroup", "cgroup2"))
			if err != nil {
				t.Fatal(err)
			}
			got, err := nodeOf(mounts)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("err = %v, want %q", err, c.err)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(got, c.want) {
				t.Fatalf("got %+v, %v\nwant %+v", got, err, c.want)
			}
		})
	}
}

func TestDetectThisNode(t *testing.T) {
	n, err := Detect()
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range n.trees("/") {
		if !exists(dir + "/cgroup.procs") {
			t.Errorf("%s is not a group", dir)
		}
	}
	if n.Mode != Unified && !n.has("memory") {
		t.Errorf("%+v has no memory controller", n)
	}
}
