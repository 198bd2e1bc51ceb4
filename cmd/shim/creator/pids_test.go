package creator

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/opencontainers/runc/libcontainer/configs"

	"github.com/runtimed/runtimed/cmd/shim/bundle"
	"github.com/runtimed/runtimed/pkg/sandbox/process"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// The PID namespace is joined through what was opened, and only of the process that was recorded.
func TestHoldPIDs(t *testing.T) {
	boot, err := process.BootID()
	must(t, err)
	self, err := process.Identify(os.Getpid(), boot)
	must(t, err)
	other := self
	other.StartTicks++
	ended := exec.Command("true")
	must(t, ended.Start())
	gone, err := process.Identify(ended.Process.Pid, boot)
	must(t, err)
	must(t, ended.Wait())
	for _, c := range []struct {
		name, path string
		owner      *spec.Process
		want       string
	}{
		{"nobody's", "", nil, ""},
		{"the owner's", "/proc/self/ns/pid", &self, ""},
		{"another process with its pid", "/proc/self/ns/pid", &other, "has ended"},
		{"one that ended", "/proc/self/ns/pid", &gone, "has ended"},
		{"a path without an owner", "/proc/1/ns/pid", nil, "does not say whose"},
		{"an owner without a path", "", &self, "does not say whose"},
	} {
		creator := &creator{bundle: &bundle.Bundle{Launch: spec.Launch{PIDOwner: c.owner}}, config: &configs.Config{}}
		if c.path != "" {
			creator.config.Namespaces.Add(configs.NEWPID, c.path)
		}
		err := creator.holdPIDs(t.Context())
		if c.want != "" {
			if err == nil || !strings.Contains(err.Error(), c.want) || creator.pids != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if c.owner == nil {
			continue
		}
		want, err := os.Readlink("/proc/self/ns/pid")
		must(t, err)
		if got, err := os.Readlink(creator.config.Namespaces.PathOf(configs.NEWPID)); got != want {
			t.Errorf("%s: joins %s, %v", c.name, got, err)
		}
		creator.pids.Close()
	}
}
