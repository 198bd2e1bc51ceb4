package creator

import (
	"strings"
	"testing"

	"github.com/opencontainers/cgroups"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func TestNoSwapIsAProperty(t *testing.T) {
	for _, r := range []*cgroups.Resources{{Memory: 9, MemorySwap: 9}, {Memory: 9, MemorySwap: 9, Unified: map[string]string{"memory.high": "5"}}} {
		c := &cgroups.Cgroup{Resources: r}
		throughSystemd(c, "/a.slice/runtimed-1.scope")
		if got := c.Resources.Unified["memory.swap.max"]; got != "0" {
			t.Errorf("memory.swap.max is %q", got)
		}
	}
	c := &cgroups.Cgroup{Resources: &cgroups.Resources{Memory: 9, MemorySwap: 10}}
	throughSystemd(c, "/a.slice/runtimed-1.scope")
	if c.Resources.Unified != nil {
		t.Errorf("swap of 1 byte became %v", c.Resources.Unified)
	}
}

func TestThroughSystemd(t *testing.T) {
	id := strings.Repeat("c", 64)
	pod, err := spec.Groups{Root: "/runtimed", Systemd: true}.Pod("/kubepods.slice", strings.Repeat("5", 64))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		spec.ContainerGroup(pod, id):                                     "runtimed-" + id + ".scope",
		spec.Groups{Root: "/runtimed", Systemd: true}.Shim(id):           "runtimed-" + id + "-shim.scope",
		"/runtimed/pods/5/" + id:                                         "",
		spec.Groups{Root: "/runtimed"}.Shim(id):                          "",
		"/test.slice/5/" + id:                                            "",
		"/kubepods.slice/kubepods-" + strings.Repeat("5", 64) + ".slice": "", // no container's
	} {
		c := &cgroups.Cgroup{Path: path}
		throughSystemd(c, path)
		if want == "" {
			if c.Systemd || c.Path != path || c.SystemdProps != nil {
				t.Errorf("%s is asked of systemd: %+v", path, c)
			}
			continue
		}
		if got := c.ScopePrefix + "-" + c.Name + ".scope"; got != want || !c.Systemd || c.Path != "" || !strings.HasSuffix(c.Parent, ".slice") {
			t.Errorf("%s: unit %s in %s, %+v", path, got, c.Parent, c)
		}
	}
}
