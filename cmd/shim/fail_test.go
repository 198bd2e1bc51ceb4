package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/runtimed/runtimed/pkg/sandbox/launch"
	"github.com/runtimed/runtimed/pkg/sandbox/launch/wire"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

// wantStartError starts a container, whose record is written, and checks the reason and that nothing is left.
func wantStartError(t *testing.T, c *container, want ...string) {
	t.Helper()
	err := c.start(t.Context())
	var s *spec.StartError
	if !errors.As(err, &s) {
		t.Errorf("got %v, not a StartError", err)
		return
	}
	for _, w := range want {
		if !strings.Contains(s.Message, w) {
			t.Errorf("%q lacks %q", s.Message, w)
		}
	}
	wantNothingLeft(t, c)
}

// wantNothingLeft: the record's own files are there, and nothing else of the container.
func wantNothingLeft(t *testing.T, c *container) {
	t.Helper()
	entries, err := os.ReadDir(c.dir())
	must(t, err)
	for _, e := range entries {
		if !slices.Contains([]string{spec.ConfigFile, spec.LaunchFile, spec.LockFile, faultFile, "events"}, e.Name()) {
			t.Errorf("%s stays in the record", e.Name())
		}
	}
	if pids := groupPids(c.launch.CgroupPath); len(pids) > 0 {
		t.Errorf("processes %v stay", pids)
	}
	for _, d := range groupDirs(c.launch.CgroupPath) {
		if _, err := os.Stat(d); err == nil {
			t.Errorf("cgroup %s stays", d)
		}
	}
	for _, p := range []string{c.layout.Rootfs(c.id), c.layout.ShimSocket(c.id)} {
		if _, err := os.Lstat(p); err == nil {
			t.Errorf("%s stays", p)
		}
	}
	if left := children(t); len(left) > 0 {
		t.Errorf("children %v are not reaped", left)
	}
	if _, ok := c.launcher.Alive(c.layout, c.pod.id, c.id); ok {
		t.Error("the lock is held")
	}
}

func TestCommandsThatCannotBeRun(t *testing.T) {
	h := newHost(t)
	p := h.newPod(true)
	for _, c := range []struct {
		name, want string
		edit       func(c *container)
	}{
		{"no such path", `exec: "/nope": no such file or directory`, func(c *container) { c.config.Process.Args[0] = "/nope" }},
		{"not in PATH", `exec: "nope": executable file not found in $PATH`, func(c *container) { c.config.Process.Args[0] = "nope" }},
		{"not executable", `exec: "/etc/group": permission denied`, func(c *container) {
			must(t, os.WriteFile(h.layout.Layers()+"/"+spec.LayerDir(c.launch.Layers[0])+"/etc/group", nil, 0o644))
			c.config.Process.Args[0] = "/etc/group"
		}},
		{"a directory", `exec: "/etc": is a directory`, func(c *container) { c.config.Process.Args[0] = "/etc" }},
		{"working directory is a file", "/bin/busybox: not a directory", func(c *container) { c.config.Process.Cwd = "/bin/busybox" }},
		{"working directory of the host", "/proc/self/fd/8", func(c *container) { c.config.Process.Cwd = "/proc/self/fd/8" }},
		{"unmapped user", "user 70000 is not mapped in the pod's user namespace", func(c *container) { c.config.Process.User.UID = 70000 }},
		{"unmapped group", "group 70000 is not mapped", func(c *container) { c.config.Process.User.GID = 70000 }},
		{"no command", "no command to run", func(c *container) { c.config.Process.Args = nil }},
		{"hooks", "has hooks", func(c *container) { c.config.Hooks = &specs.Hooks{} }},
		{"limit", `resource limit "nofile" is not one of setrlimit(2)`, func(c *container) {
			c.config.Process.Rlimits = []specs.POSIXRlimit{{Type: "nofile"}}
		}},
		{"layer missing", "of the image is not unpacked here", func(c *container) { c.launch.Layers = append(c.launch.Layers, "sha256:0a") }},
		{"no layers", "an image of 0 layers", func(c *container) { c.launch.Layers = nil }},
		{"too many layers", "an image of 501 layers", func(c *container) { c.launch.Layers = slices.Repeat(c.launch.Layers, 501) }},
		{"layer outside", `"sha256:../.." is not a chain id`, func(c *container) { c.launch.Layers = []string{"sha256:../.."} }},
		{"user namespace gone", "no such file or directory", func(c *container) { c.launch.UserNamespace += "x" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := p.newContainer("true")
			k.t = t
			c.edit(k)
			k.write()
			wantStartError(t, k, c.want)
		})
	}
}

// Whatever working directory an image or a request names, no process starts outside of its root (CVE-2024-21626).
func TestWorkingDirectoryIsInside(t *testing.T) {
	h := newHost(t)
	p := h.newPod(true)
	script := []string{"sh", "-c", "readlink /proc/self/cwd; ls ../../../../../../../../bin/busybox"}
	for fd := 3; fd < 30; fd++ {
		c := p.newContainer(script...)
		_, dir := h.layer()
		must(t, os.Symlink("/proc/self/fd/"+itoa(fd), dir+"/w"))
		c.launch.Layers = append(c.launch.Layers, "sha256:"+filepath.Base(dir))
		c.config.Process.Cwd = "/w"
		c.write()
		if err := c.start(t.Context()); err != nil {
			continue // refused
		}
		if out := c.output(0); !strings.HasPrefix(out, "/") || strings.Contains(out, "unreachable") {
			t.Errorf("descriptor %d: %q", fd, out)
		}
	}
}

func TestClosedDirectoryAboveTheRunDirectory(t *testing.T) {
	h := newHost(t)
	c := h.newPod(true).newContainer("true")
	c.write()
	base := filepath.Dir(h.layout.Run)
	must(t, os.Chmod(base, 0o700))
	wantStartError(t, c, base, "closed to the pod's root")
	must(t, os.Chmod(base, 0o711))
	must(t, c.start(t.Context()))
	c.output(0)
}

func TestMonitorMissing(t *testing.T) {
	h := newHost(t)
	c := h.newPod(true).newContainer("true")
	c.write()
	alone := t.TempDir()
	must(t, exec.Command("cp", filepath.Join(built, wire.Binary), alone).Run())
	var err error
	c.host.launcher.Close()
	c.host.launcher, err = launch.New(launch.Options{Program: filepath.Join(alone, wire.Binary)})
	must(t, err)
	wantStartError(t, c, "exec", alone, "no such file or directory")
}

// The monitor refuses: the container is killed, and the rest is the undo's.
func TestLogCannotBeWritten(t *testing.T) {
	h := newHost(t)
	c := h.newPod(true).newContainer("sleep", "1000")
	c.launch.LogPath = h.layout.Root + "/absent/log"
	c.write()
	var s *spec.StartError
	if err := c.start(t.Context()); !errors.As(err, &s) || !strings.Contains(s.Message, "no such file or directory") {
		t.Errorf("got %v", err)
	}
	if pids := groupPids(c.launch.CgroupPath); len(pids) > 0 {
		t.Errorf("processes %v stay", pids)
	}
	c.undo()
	wantNothingLeft(t, c)
}

func TestNotRecorded(t *testing.T) {
	h := newHost(t)
	c := h.newPod(true).newContainer("true")
	c.write()
	refused := errors.New("disk full")
	if err := c.launcher.Start(t.Context(), c.launch, func(spec.Process) error { return refused }); !errors.Is(err, refused) {
		t.Errorf("got %v", err)
	}
	wantNothingLeft(t, c)
	if _, err := os.Stat(filepath.Join(c.dir(), spec.LockFile)); !os.IsNotExist(err) {
		t.Errorf("the creator began: %v", err)
	}
}

func TestSecondShimIsRefused(t *testing.T) {
	h := newHost(t)
	c := h.newPod(true).newContainer("sleep", "1000").run()
	var s *spec.StartError
	if err := c.start(t.Context()); !errors.As(err, &s) || !strings.Contains(s.Message, "another shim of this container is alive") {
		t.Errorf("got %v", err)
	}
	if !alive(c.started().Init.PID) {
		t.Error("the container was killed")
	}
}

// The caller gives up while the creator hangs at a step.
func TestCallerGivesUp(t *testing.T) {
	h := newHost(t)
	p := h.newPod(true)
	for _, at := range []string{"cover", "start", "become"} {
		c := p.newContainer("true")
		c.write(fault{Flow: "creator", Step: at, Phase: step.Doing, Do: "stop"})
		gaveUp := errors.New("gave up")
		ctx, cancel := context.WithCancelCause(t.Context())
		err := c.launcher.Start(ctx, c.launch, func(p spec.Process) error {
			c.shim = p
			go func() {
				for alive(p.PID) && !stopped(p.PID) {
					time.Sleep(time.Millisecond)
				}
				cancel(gaveUp)
			}()
			return nil
		})
		if !errors.Is(err, gaveUp) {
			t.Errorf("%s: got %v", at, err)
		}
		c.undo()
		wantNothingLeft(t, c)
	}
}

// stopped says whether a process waits for SIGCONT; one that is gone does not.
func stopped(pid int) bool {
	b, err := os.ReadFile("/proc/" + itoa(pid) + "/stat")
	return err == nil && strings.Contains(string(b), ") T ")
}

// undo is what the daemon's own undo of a Start does, by id.
func (c *container) undo() {
	c.t.Helper()
	must(c.t, c.host.Remove(context.Background(), c.launch.CgroupPath))
	for _, p := range []string{spec.UpperDir, spec.WorkDir, spec.VolumesDir, spec.StateDir, spec.StartedFile} {
		must(c.t, os.RemoveAll(filepath.Join(c.dir(), p)))
	}
	for _, p := range []string{c.layout.Rootfs(c.id), c.layout.ShimSocket(c.id)} {
		if err := os.Remove(p); err != nil && !os.IsNotExist(err) {
			c.t.Fatal(err)
		}
	}
}
